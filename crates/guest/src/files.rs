//! The protocol of the face `files`.
