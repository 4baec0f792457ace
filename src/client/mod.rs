//! Asking an `okta-idmap` server from Rust: typed calls, and a copy of an org that answers by itself.
//!
//! Entry points: [`Client::connect`] for calls, [`Reflector::start`] for a copy that follows the server.
//!
//! | part | what it is |
//! |---|---|
//! | `options`, `wire` | where the server is and how it is spoken to; the connection and the token that goes with each call |
//! | `calls`, `retry` | every rpc as a method, lists as streams of pages; which failures are worth another attempt |
//! | `error` | what a call may end with, with the `google.rpc` details read |
//! | [`mirror`] | the copy: events in, answers out, no IO |
//! | `answers` | what a copy is asked: answered here, or by the server |
//! | `reflector`, `saved`, `age` | lists, follows, resumes, lists again; the copy in a file; how old it is |
//! | `shared`, `setback` | what everybody sees, also where something panics; copies that cannot be kept, and how rarely they are tried |
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use okta_idmap::client::{Client, Options, Reflector, ReflectorSettings};
//! use okta_idmap::core::secret::Secret;
//! use okta_idmap_proto::v1::{ExpandUserRequest, ResolutionOutcome, UserSelector, user_selector};
//!
//! async fn search_engine(token: String) -> Result<(), Box<dyn std::error::Error>> {
//!     let options = Options::new("https://idmap.example.com:8450")?.with_token(Secret::new(token))?;
//!     let client = Client::connect(&options).await?;
//!
//!     // One question to the server.
//!     let answer = client.resolve("Jira EU", "jdoe").await?;
//!
//!     // A copy of the org that keeps itself up to date, over restarts too, and answers in microseconds.
//!     let settings = ReflectorSettings { file: Some("acme.copy".into()), ..ReflectorSettings::default() };
//!     let copy = Reflector::start(client, settings);
//!     copy.ready(Duration::from_secs(60)).await?;
//!     let same = copy.who("Jira EU", "jdoe").await?;
//!
//!     // What to filter a person's queries by; `resolve_acl` says what to index with a document.
//!     let selector = Some(user_selector::Selector::UserId("00u1gjh63g214q0Hq0g5".to_owned()));
//!     let user = Some(UserSelector { selector });
//!     let filter = copy.expand_user(&ExpandUserRequest { context: None, user }).await?.principals;
//!     println!("{} principals", filter.len());
//!
//!     // Only RESOLVED grants anything.
//!     if let Some(found) = same.resolution.filter(|found| found.outcome() == ResolutionOutcome::Resolved) {
//!         println!("{:?} at revision {:?}", found.user, answer.meta.map(|meta| meta.revision));
//!     }
//!     copy.stop().await;
//!     Ok(())
//! }
//! ```
//!
//! Invariants:
//! - The token goes over the connection that it was given for, never over an unencrypted one to another machine, and is
//!   shown nowhere.
//! - Nothing is repeated that could do something twice.
//! - A copy shows what the server had at one revision, or nothing: never a state in between.

mod age;
mod answers;
mod calls;
mod error;
pub mod mirror;
mod options;
mod reflector;
mod retry;
mod saved;
mod setback;
mod shared;
mod wire;

pub use self::calls::Client;
pub use self::error::{ClientError, Refusal, Violation};
pub use self::mirror::{Answer, Mirror, MirrorError};
pub use self::options::{Options, OptionsError};
pub use self::reflector::{Phase, Reflector, ReflectorError, ReflectorSettings, ReflectorState};
pub use self::retry::Retry;
pub use self::saved::SaveError;
pub use self::setback::{Setback, SetbackCause};
