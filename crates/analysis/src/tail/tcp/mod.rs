//! What TCP did: retransmissions with their trigger, the wait before them and where the attempt before was dropped;
//! reordering; zero windows.

mod collector;
mod connection;
mod view;

pub(super) use collector::TcpCollector;
pub(super) use connection::RTO_MIN_NS;
pub use view::{RetransmissionGroup, RetransmitTrigger, TcpView, TimeoutWaits};
