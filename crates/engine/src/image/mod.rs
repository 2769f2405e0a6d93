//! Images: names, sources, the store of what was fetched.
