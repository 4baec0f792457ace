//! Asking an `okta-idmap` server from Rust: typed calls.
//!
//! Entry point: [`Client::connect`].
//!
//! | part | what it is |
//! |---|---|
//! | `options`, `wire` | where the server is and how it is spoken to; the connection and the token that goes with each call |
//! | `calls`, `retry` | every rpc as a method, lists as streams of pages; which failures are worth another attempt |
//! | `error` | what a call may end with, with the `google.rpc` details read |
//!
//! Invariants:
//! - The token goes over the connection that it was given for, never over an unencrypted one to another machine, and is
//!   shown nowhere.
//! - Nothing is repeated that could do something twice.

mod calls;
mod error;
mod options;
mod retry;
mod wire;

pub use self::calls::Client;
pub use self::error::{ClientError, Refusal, Violation};
pub use self::options::{Options, OptionsError};
pub use self::retry::Retry;
