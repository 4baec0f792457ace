//! An operator who sets overrides and takes them back in a process that is killed, and what must be there afterwards.
//!
//! The process says on its standard output what it is about to order, and what was acknowledged: what was written to a pipe
//! outlives it. Entry points: [`operate`] in the child, [`Decided`] in the parent.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use fastrand::Rng;
use okta_idmap::client::{Client, Options};
use okta_idmap::store::Reader;
use okta_idmap_proto::v1;
use tonic::Code;

/// Environment of the child: set = order overrides; a seed, apps and users, separated by blanks and commas.
pub(crate) const OPERATOR: &str = "OKTA_IDMAP_CRASH_OPERATOR";

/// Names that are decided about, per app: few, so that they are set, set again and taken back.
const NAMES: usize = 3;

/// What a line of the operator begins with.
const LINE: &str = "operator";

/// Longest wait between two orders, in milliseconds: some land in every kill.
const WAIT_MILLIS_MAX: u64 = 12;

/// What the parent hands to a child.
pub(crate) fn environment(seed: u64, apps: &[String], users: &[String]) -> String {
    format!("{seed} {} {}", apps.join(","), users.join(","))
}

/// Orders at random until the process ends. Without the environment it does nothing.
pub(crate) async fn operate(server: SocketAddr) {
    let Ok(told) = std::env::var(OPERATOR) else { return std::future::pending().await };
    let words: Vec<&str> = told.split(' ').collect();
    let (apps, users): (Vec<&str>, Vec<&str>) = (words[1].split(',').collect(), words[2].split(',').collect());
    let mut random = Rng::with_seed(words[0].parse().unwrap());
    let client = Client::lazy(&Options::new(&format!("http://{server}")).unwrap()).unwrap();
    let day = std::time::SystemTime::now() + Duration::from_secs(86_400);
    loop {
        let (app, user) = (*random.choice(&apps).unwrap(), *random.choice(&users).unwrap());
        let name = format!("killed{}", random.usize(0..NAMES));
        let identifier = Some(v1::Identifier { value: name.clone(), kind: v1::IdentifierKind::UserName.into() });
        let selector = Some(v1::app_selector::Selector::AppId(app.to_owned()));
        let account = Some(v1::AccountSelector { app: Some(v1::AppSelector { selector }), identifier });
        let is_set = random.u8(0..3) > 0;
        let wanted = if is_set { user } else { "-" };
        tell(&format!("{LINE} tries {app} {name} {wanted}"));
        let answer = if is_set {
            let (user_id, reason) = (user.to_owned(), "killed meanwhile".to_owned());
            let request =
                v1::SetOverrideRequest { context: None, account, user_id, expires_at: Some(day.into()), reason };
            client.set_override(request).await.map(|_| ())
        } else {
            client.delete_override(v1::DeleteOverrideRequest { context: None, account }).await.map(|_| ())
        };
        match answer {
            Ok(()) => tell(&format!("{LINE} did {app} {name} {wanted}")),
            Err(error) => {
                // Anything else may have been carried out, or not.
                let code = error.refusal().map(|refusal| refusal.code);
                if matches!(code, Some(Code::NotFound | Code::InvalidArgument | Code::FailedPrecondition)) {
                    tell(&format!("{LINE} refused {app} {name} {wanted}"));
                }
            }
        }
        tokio::time::sleep(Duration::from_millis(random.u64(0..WAIT_MILLIS_MAX))).await;
    }
}

fn tell(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).unwrap();
}

/// An app and a name.
type Name = (String, String);

/// What was decided about every name: whom it may mean (`-`: nobody) by all that is known.
#[derive(Debug, Default)]
pub(crate) struct Decided {
    names: BTreeMap<Name, BTreeSet<String>>,
    /// What it might mean before the order that has no answer yet.
    before: BTreeSet<String>,
    /// How many were acknowledged: set, taken back.
    pub(crate) set: usize,
    pub(crate) taken_back: usize,
    /// Orders that a kill has left without an answer.
    pub(crate) cut_off: usize,
}

impl Decided {
    /// Takes what a process has said.
    pub(crate) fn read(&mut self, said: &str) {
        for line in said.lines() {
            let words: Vec<&str> = line.split(' ').collect();
            // Of the last line a part may be missing: it was not acknowledged to anybody then.
            let [LINE, what, app, name, user] = words[..] else { continue };
            let may_mean = self.names.entry((app.to_owned(), name.to_owned())).or_insert_with(nobody);
            match what {
                "tries" => {
                    self.before.clone_from(may_mean);
                    may_mean.insert(user.to_owned());
                    self.cut_off += 1;
                }
                "did" => {
                    *may_mean = BTreeSet::from([user.to_owned()]);
                    *(if user == "-" { &mut self.taken_back } else { &mut self.set }) += 1;
                    self.cut_off -= 1;
                }
                "refused" => {
                    may_mean.clone_from(&self.before);
                    self.cut_off -= 1;
                }
                _ => {}
            }
        }
    }

    /// What was acknowledged is there, and nothing that nobody has ordered. What is there is what counts from here on.
    pub(crate) fn assert_kept(&mut self, reader: &Reader) {
        let stored = reader.read(|snapshot| snapshot.overrides(None, None, None, 1_000)).unwrap().rows;
        let mut stored: BTreeMap<Name, String> = stored
            .into_iter()
            .map(|record| {
                let entry = record.entry;
                ((entry.app.to_string(), entry.name.to_string()), entry.user.to_string())
            })
            .collect();
        for (name, may_mean) in &mut self.names {
            let found = stored.remove(name).unwrap_or_else(|| "-".to_owned());
            assert!(may_mean.contains(&found), "{name:?} means {found:?}, acknowledged was one of {may_mean:?}");
            *may_mean = BTreeSet::from([found]);
        }
        assert!(stored.is_empty(), "nobody has ordered {stored:?}");
    }
}

fn nobody() -> BTreeSet<String> {
    BTreeSet::from(["-".to_owned()])
}
