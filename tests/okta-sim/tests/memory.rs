//! Memory of a generated org. Alone in its process: other tests' memory would be counted, too.

use okta_sim::{Org, Spec};

/// Resident memory of this process in KiB, where the system tells.
fn resident_kib() -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// Generates this many users and returns KiB per user, 5 app users included.
fn kib_per_user(users: usize) -> Option<f64> {
    let before = resident_kib()?;
    let org = Org::generate(&Spec::of_users(users));
    assert!(org.app_user_count() > 2 * users);
    let used = resident_kib()?.saturating_sub(before);
    // Counts stay far below 2^52, so the division is exact enough.
    #[expect(clippy::cast_precision_loss, reason = "counts of a test")]
    let per_user = used as f64 / users as f64;
    Some(per_user)
}

/// One KiB per user makes a million users fit into 1 GiB. The same for a million users is the manual run of the README
/// (`OKTA_SIM_SCALE_USERS=1000000 cargo test --release`).
#[test]
fn memory_is_bounded() {
    let users = std::env::var("OKTA_SIM_SCALE_USERS").ok().and_then(|text| text.parse().ok()).unwrap_or(20_000);
    if let Some(per_user) = kib_per_user(users) {
        assert!(per_user < 1.5, "{per_user} KiB per user");
    }
}
