"""Reference trainers that consume a build, and the progress metrics they need."""
