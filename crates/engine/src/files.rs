//! Files of pixels: the client of the face `files`.
