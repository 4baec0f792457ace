//! The gRPC API `idmap.v1`: messages, clients and servers generated from `idmap/v1/*.proto`, and the limits that it
//! states.
//!
//! Entry points: [`v1`] for the generated code, [`limits`] for the documented maxima, [`FILE_DESCRIPTOR_SET`] for
//! server reflection.
//!
//! The generated code is committed, so that a build needs no protoc and no build script. After a change of a `.proto`
//! file run `UPDATE_GENERATED=1 cargo test -p okta-idmap-proto` and commit what it rewrites.
//!
//! ```no_run
//! use okta_idmap_proto::{limits, v1};
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let channel = tonic::transport::Endpoint::from_static("http://127.0.0.1:7443").connect().await?;
//! let mut lookup =
//!     v1::lookup_client::LookupClient::new(channel).max_decoding_message_size(limits::RESPONSE_BYTES_MAX);
//! let request = v1::GetUserRequest {
//!     context: None,
//!     user: Some(v1::UserSelector { selector: Some(v1::user_selector::Selector::UserId("00u1".into())) }),
//! };
//! let answer = lookup.get_user(request).await?.into_inner();
//! let outcome = answer.user.map(|user| user.outcome());
//! assert_eq!(outcome, Some(v1::SubjectOutcome::Found));
//! # Ok(())
//! # }
//! ```
//!
//! Invariants, checked by `tests/`:
//! - `src/generated/` is exactly what the `.proto` files generate.
//! - Everything in the `.proto` files has a comment, and follows the layout in the head of `common.proto`.
//! - No number of `field_numbers.txt` is ever changed, reused or dropped without being reserved.
//! - The numbers in the comments are those in [`limits`].

mod codec;
mod context;
pub mod limits;
mod reason;

/// The generated messages, enums, clients and servers of the package `idmap.v1`.
///
/// Each service `X` has the modules `x_client` and `x_server`; the latter's `SERVICE_NAME` is the name for the health
/// service. Comments on messages and fields are those of the `.proto` files.
#[expect(
    clippy::allow_attributes,
    clippy::large_enum_variant,
    reason = "generated: tonic writes its own allows, and boxing the usual variant would cost an allocation per answer"
)]
pub mod v1 {
    // `include!` and not a module file: rustfmt does not follow it, so the file stays as the generator wrote it.
    include!("generated/idmap.v1.rs");
}

/// The encoded `google.protobuf.FileDescriptorSet` of the API with everything it imports and with all comments: what
/// server reflection serves.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!("generated/descriptor.bin");
