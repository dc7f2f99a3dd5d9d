"""ClickHouse: migrations, sink, named queries, and the local engine."""
