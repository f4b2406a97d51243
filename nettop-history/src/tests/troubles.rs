//! What may happen to a file.
