"""The doors of Voltfold: OCPI over HTTP, the partner registry, and the read view behind both."""
