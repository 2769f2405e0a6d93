//! Writes a tree from a stream, confined to its directory.
