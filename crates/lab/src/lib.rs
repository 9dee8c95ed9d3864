//! The dataplanes of well-known container networks ([`dataplanes`]), test traffic through them ([`traffic`]), and their
//! comparison ([`compare`]).

// Printing to a closed pipe or a full disk with these would panic.
#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod compare;
pub mod dataplanes;
mod say;
pub mod traffic;

pub use say::say;
