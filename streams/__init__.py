"""The verbs of Voltfold: pure folds, and beside them the agents that run them, and replay."""
