//! The server-to-server engine: bulk sessions that move managed objects, and the responder that takes them in.
mod arrival;
mod bulk;
mod copy;
mod error;
mod node;
mod policy;
mod report;
mod respond;
mod session;

pub use bulk::{Bulk, BulkOptions, Strategy};
pub use copy::{Copy, Fate, check_extensions};
pub use error::{Error, ErrorKind, Result};
pub use node::{Node, complete, shown};
pub use policy::{Peer, Policy};
pub use report::{Counts, FailedObject, Report};
pub use respond::{Ask, OPERATIONS, Outcome, Placeholder, Responder, check_format, released, store_failed};
pub use session::{Cx, Driven, Session, Step};
