//! The dataplanes of well-known container networks ([`dataplanes`]), test traffic through them ([`traffic`]), and their
//! comparison ([`compare`]).

pub mod compare;
pub mod dataplanes;
pub mod traffic;
