//! The stream that carries a tree of files from whoever reads an archive to whoever writes it.
