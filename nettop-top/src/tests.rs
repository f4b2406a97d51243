//! The screen against what it was given.
