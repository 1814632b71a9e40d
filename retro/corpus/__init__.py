"""A corpus: its files, what a build of it takes, the stages of the build, and its reader."""
