"""Ground floor: schemas, sources, segments, progress, markers, variants, the shard engine."""
