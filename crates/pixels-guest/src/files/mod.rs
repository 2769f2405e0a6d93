//! The face `files`: file operations inside a pixel.
