//! Lab fixtures and golden files.
