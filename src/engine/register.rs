//! Keeps the register of names: makes it where an org is large enough, and anew once too much of it is out of date.
//!
//! Entry points: `keep` beside a running writer, [`make`] for one time.
//!
//! Look-ups are answered without it, only more slowly, so nothing that goes wrong here ends anything. But it takes room on the disk,
//! which the store may need next.

use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{OrgRuntime, clock};
use crate::core::ids::Timestamp;
use crate::store::{Adopted, Made, Reader, RegisterLook, Step, StoreError};

/// When a register of names is made.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RegisterSettings {
    /// Accounts from which on there is one; `None`: never.
    pub accounts_min: Option<u64>,
    /// How often it is looked whether one is to be made.
    pub look_interval: Duration,
    /// Time between the end of one making and the begin of the next.
    pub wait: Duration,
    /// It is made anew when it is of no use for more than this share of the people, 0 to 1.
    pub touched_max: f64,
    /// The same when it is older and of no use for anybody: names of people who are gone stay in it until then.
    pub age_max: Duration,
}

impl RegisterSettings {
    /// Never a register.
    pub const OFF: Self = Self { accounts_min: None, ..Self::ON };

    /// What orgs have by default. Fewer names than those that are remembered in memory need none. To make one costs some ten
    /// microseconds an account.
    pub const ON: Self = Self {
        accounts_min: Some(65_536),
        look_interval: Duration::from_secs(30),
        wait: Duration::from_secs(3_600),
        touched_max: 0.25,
        age_max: Duration::from_secs(7 * 86_400),
    };

    /// Whether one is to be made at `now`; `since_last`: how long ago the last making ended, if there was one in this process.
    fn is_due(&self, look: &RegisterLook, since_last: Option<Duration>, now: Timestamp) -> bool {
        let is_wanted = look.is_crawled && self.accounts_min.is_some_and(|min| look.accounts >= min);
        let is_soon = since_last.is_some_and(|since| since < self.wait);
        let age_max = i64::try_from(self.age_max.as_millis()).unwrap_or(i64::MAX);
        let is_old = look.made_at.is_none_or(|made_at| now.millis_since(made_at) > age_max);
        let is_used_up = look.touched_share > self.touched_max || (is_old && look.touched_share > 0.0);
        let is_good = look.is_in_use && !look.is_stained && !is_used_up;
        is_wanted && !is_soon && !is_good
    }
}

/// Keeps that of an org until shutdown.
pub(super) async fn keep(org: &OrgRuntime, stop: &CancellationToken) {
    let (settings, reader) = (&org.settings().register, org.reader());
    begin(org).await;
    let mut last: Option<Instant> = None;
    while settings.accounts_min.is_some() {
        match reader.register_look() {
            Ok(look) => {
                if look.is_stained {
                    note(org, reader.drop_register().await);
                }
                if settings.is_due(&look, last.map(|last| last.elapsed()), clock::now()) {
                    note(org, renew(org, stop).await);
                    last = Some(Instant::now());
                }
            }
            Err(error) => note(org, Err(error)),
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(settings.look_interval) => {}
        }
    }
    stop.cancelled().await;
}

/// Takes the register into use that is there, or removes it: where there is to be none, where it is of no use any more, and where it
/// holds names that must not stay in any file.
pub(super) async fn begin(org: &OrgRuntime) {
    let begun = match org.settings().register.accounts_min {
        Some(_) => adopt(org, false).await,
        None => org.reader().drop_register().await,
    };
    if begun.is_err() {
        note(org, begun);
        note(org, org.reader().drop_register().await);
    }
}

fn note(org: &OrgRuntime, outcome: Result<(), StoreError>) {
    if let Err(error) = outcome {
        tracing::warn!(org = %org.name(), %error, "no register of names could be made or used: look-ups take somewhat longer");
    }
}

async fn adopt(org: &OrgRuntime, is_own: bool) -> Result<(), StoreError> {
    match org.reader().adopt_register(is_own).await? {
        Adopted::Yes => tracing::info!(org = %org.name(), "the register of names is in use"),
        Adopted::No(reason) => tracing::info!(org = %org.name(), reason, "the register of names is removed"),
        Adopted::Missing => {}
    }
    Ok(())
}

async fn renew(org: &OrgRuntime, stop: &CancellationToken) -> Result<(), StoreError> {
    let began = Instant::now();
    // Half of a core at most: look-ups come first.
    let paced = async |worked: Duration| tokio::time::sleep(worked).await;
    let Some(made) = make(org.reader(), paced, stop).await? else { return Ok(()) };
    let Made { names, accounts, bytes } = made;
    tracing::info!(org = %org.name(), names, accounts, bytes, took = ?began.elapsed(), "register of names made");
    adopt(org, true).await
}

/// Makes a register; `rest` is waited for after each step, with the time that it took. `None`: stopped before its end.
///
/// # Errors
/// The file cannot be written, for example since the disk is full; the store cannot be read. Nothing is left of it.
pub async fn make(
    reader: &Reader,
    rest: impl AsyncFn(Duration),
    stop: &CancellationToken,
) -> Result<Option<Made>, StoreError> {
    let mut builder = reader.begin_register(clock::now()).await?;
    loop {
        let began = Instant::now();
        builder = match reader.go_on_with_register(builder).await? {
            Step::Next(builder) => *builder,
            Step::Done(made) => return Ok(Some(made)),
        };
        let worked = began.elapsed();
        tokio::select! {
            () = stop.cancelled() => {
                builder.abandon();
                return Ok(None);
            }
            () = rest(worked) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_register_is_made_where_it_is_worth_it() {
        let none = RegisterLook {
            accounts: 65_536,
            is_crawled: true,
            is_in_use: false,
            touched_share: 0.0,
            is_stained: false,
            made_at: None,
        };
        let now = Timestamp::from_millis(30 * 86_400_000);
        let made_at = Some(now.plus_millis(-7 * 86_400_000));
        let good = RegisterLook { is_in_use: true, touched_share: 0.25, made_at, ..none };
        let old = RegisterLook { made_at: Some(now.plus_millis(-7 * 86_400_000 - 1)), touched_share: 0.01, ..good };
        let hour = Duration::from_secs(3_600);
        let on = RegisterSettings::ON;
        let cases = [
            ("none yet", on, none, None, true),
            ("few accounts", on, RegisterLook { accounts: 65_535, ..none }, None, false),
            ("before the first crawl ends", on, RegisterLook { is_crawled: false, ..none }, None, false),
            ("off", RegisterSettings::OFF, none, None, false),
            ("failed a while ago", on, none, Some(hour / 2), false),
            ("failed long ago", on, none, Some(hour), true),
            ("good", on, good, None, false),
            ("old", on, old, None, true),
            ("old, and nothing has changed", on, RegisterLook { touched_share: 0.0, ..old }, None, false),
            ("out of date", on, RegisterLook { touched_share: 0.26, ..good }, None, true),
            ("soon out of date", on, RegisterLook { touched_share: 1.0, ..good }, Some(hour / 2), false),
            ("with names that must go", on, RegisterLook { is_stained: true, ..good }, None, true),
        ];
        for (case, settings, look, since_last, expected) in cases {
            assert_eq!(settings.is_due(&look, since_last, now), expected, "{case}");
        }
    }
}
