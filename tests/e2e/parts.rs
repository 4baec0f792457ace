//! The part of an org that filters leave, and people who must be nowhere.
//!
//! Entry points: [`check`], [`assert_nowhere`], [`Outsiders`].

use std::collections::BTreeSet;
use std::path::Path;

use okta_idmap::core::ids::{AppId, UserId};
use okta_idmap::core::normalize::{Identifier, NameRule};
use okta_idmap::core::resolve::NameField;
use okta_sim::org::{TruthGroup, TruthUser};
use okta_sim::{AppRef, GroupRef, NewUser, Org, Sim, UserRef};

use crate::harness::{World, assert_index};
use crate::picture::{Picture, Want};

pub(crate) type Users = fn(&TruthUser) -> bool;
pub(crate) type Groups = fn(&TruthGroup) -> bool;

/// The part of the org that filters of users and groups leave.
pub(crate) fn part_of_org(sim: &Sim, user: Users, group: Groups) -> Picture {
    let users: BTreeSet<String> = sim.org.truth_users().filter(user).map(|row| row.id).collect();
    let groups: BTreeSet<String> = sim.org.truth_groups().filter(&group).map(|row| row.id).collect();
    let dropped: Vec<String> = sim.org.truth_groups().filter(|row| !group(row)).map(|row| row.id).collect();
    let mut picture = Picture::of_org(sim, &Want::default());
    picture.rows.retain(|key, _| match key.split(' ').collect::<Vec<_>>().as_slice() {
        ["user", id] | ["app_user", _, id] => users.contains(*id),
        ["group", id] | ["app_group", _, id] => groups.contains(*id),
        ["member", group, user] => groups.contains(*group) && users.contains(*user),
        _ => true,
    });
    for (_, text) in picture.rows.iter_mut().filter(|(key, _)| key.starts_with("app_user ")) {
        for id in &dropped {
            *text = text.replace(&format!("Some({id:?})"), "None");
        }
    }
    picture
}

pub(crate) fn is_in(user: &TruthUser, is_wanted: fn(&str) -> bool) -> bool {
    let domain_of = |name: &str| name.rsplit_once('@').map(|(_, domain)| domain.to_lowercase()).unwrap_or_default();
    is_wanted(&domain_of(&user.login)) || is_wanted(&domain_of(&user.email))
}

/// Whether login or e-mail of a user is in this domain.
pub(crate) fn is_of(user: &TruthUser, wanted: &str) -> bool {
    let is_wanted = |name: &str| name.rsplit_once('@').is_some_and(|(_, domain)| domain.to_lowercase() == wanted);
    is_wanted(&user.login) || is_wanted(&user.email)
}

pub(crate) const fn all_groups(_: &TruthGroup) -> bool {
    true
}

#[track_caller]
pub(crate) fn check(world: &World, users: Users, groups: Groups, label: &str) {
    let stored = world.picture();
    stored.assert_equals(&part_of_org(&world.server.sim(), users, groups), label);
    assert_index(&world.settings(), &stored, label);
}

/// Asserts that no file of the data directory holds one of the texts, in any case of letters.
#[track_caller]
pub(crate) fn assert_nowhere(dir: &Path, texts: &[String]) {
    let mut files = vec![dir.to_owned()];
    let mut looked_at = 0;
    while let Some(path) = files.pop() {
        if path.is_dir() {
            files.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            continue;
        }
        let content = String::from_utf8_lossy(&std::fs::read(&path).unwrap()).to_lowercase();
        looked_at += 1;
        for text in texts {
            assert!(!content.contains(&text.to_lowercase()), "{text} is in {}", path.display());
        }
    }
    assert!(looked_at > 2, "{looked_at} files");
}

/// People whose every name is a word of its own, with accounts and memberships like those of the others.
pub(crate) struct Outsiders {
    pub(crate) users: Vec<UserRef>,
    pub(crate) app: AppRef,
}

impl Outsiders {
    pub(crate) fn add(org: &mut Org, domain: &str, count: usize) -> Self {
        let app = org
            .truth_apps()
            .find(|app| app.name == "salesforce" && app.users > 0 && app.groups > 0)
            .map(|app| AppRef::parse(&app.id).unwrap())
            .unwrap();
        let group = org
            .truth_groups()
            .find(|group| group.kind.as_str() == "OKTA_GROUP" && group.members > 0)
            .map(|group| GroupRef::parse(&group.id).unwrap())
            .unwrap();
        let users = (0..count).map(|n| {
            let new =
                NewUser::new(&format!("qzlogin{n}x@{domain}")).named(&format!("Qzfirst{n}x"), &format!("Qzlast{n}x"));
            let user = org.create_user(&NewUser { email: Some(format!("qzmail{n}x@{domain}")), ..new }).unwrap();
            org.activate_user(user).ok();
            org.add_member(user, group).unwrap();
            org.assign_user(app, user).unwrap();
            org.set_app_user_name(app, user, &format!("qzaccount{n}x")).unwrap();
            org.set_external_id(app, user, Some(&format!("QzExternal{n}x"))).unwrap();
            user
        });
        let users = users.collect();
        org.run_all_jobs();
        Self { users, app }
    }

    /// What must be nowhere.
    pub(crate) fn names(&self) -> Vec<String> {
        let of = |n: usize| {
            ["qzlogin", "qzfirst", "qzlast", "qzmail", "qzaccount", "qzexternal"].map(|word| format!("{word}{n}x"))
        };
        (0..self.users.len()).flat_map(of).collect()
    }

    /// Asserts that the store knows, or does not know, that they are kept out.
    #[track_caller]
    pub(crate) fn assert_known(&self, world: &World, expected: bool) {
        let app = AppId::new(&self.app.id()).unwrap();
        let reader = world.reader();
        let name = |text: &str, field| {
            let identifier = Identifier::new(text).unwrap();
            reader.read(|snapshot| snapshot.is_filtered_name(Some(&app), identifier, &[field])).unwrap()
        };
        for (n, user) in self.users.iter().enumerate() {
            let id = UserId::new(&user.id()).unwrap();
            assert_eq!(reader.read(|snapshot| snapshot.is_filtered_user(&id)).unwrap(), expected, "{id}");
            for (text, field, rule) in [
                (format!("QZLOGIN{n}x@Outside.test"), NameField::Login, NameRule::Default),
                (format!("qzmail{n}x@outside.test"), NameField::PrimaryEmail, NameRule::Default),
                (format!("qzaccount{n}x"), NameField::UserName, NameRule::Default),
                (format!("QZaccount{n}x"), NameField::UserName, NameRule::IgnoreCase),
                (format!("QzExternal{n}x"), NameField::ExternalId, NameRule::Exact),
            ] {
                assert_eq!(name(&text, (field, rule)), expected, "{text}");
            }
            let other_case = format!("QZaccount{n}x");
            assert!(!name(&other_case, (NameField::UserName, NameRule::Exact)), "{other_case} is another name");
            assert!(!name(&format!("qzaccount{n}x"), (NameField::ExternalId, NameRule::Exact)), "in another field");
        }
        assert!(!name("nobody@outside.test", (NameField::Login, NameRule::Default)));
    }
}
