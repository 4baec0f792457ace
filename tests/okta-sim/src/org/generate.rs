//! Seeded generation of realistic orgs from ten to a million users.
//!
//! Entry point: [`Org::generate`] with a [`Spec`]. The same spec gives the same org; nothing is written to the log, as
//! all of it is older than the log's retention.

use super::types::{
    App, AppStatus, AppUserStatus, GroupKind, Provider, Scheme, Scope, SignOnMode, SyncState, Template, User,
    UserStatus,
};
use super::{AppRef, GroupRef, NewApp, Org, START_MS};

/// What to generate.
#[derive(Clone, Debug)]
pub struct Spec {
    /// Users besides the administrator.
    pub users: usize,
    /// Groups besides `Everyone`.
    pub groups: usize,
    /// Apps besides the three built-in ones.
    pub apps: usize,
    /// Decides everything else.
    pub seed: u64,
    /// App users per user to aim at, on average.
    pub app_users_per_user: usize,
}

impl Default for Spec {
    fn default() -> Self {
        Self { users: 1_000, groups: 100, apps: 40, seed: 1, app_users_per_user: 5 }
    }
}

impl Spec {
    /// An org of this many users with a tenth as many groups and a 25th as many apps, within sensible bounds.
    pub fn of_users(users: usize) -> Self {
        let groups = (users / 10).clamp(8, 5_000);
        let apps = (users / 25).clamp(14, 1_000);
        Self { users, groups, apps, ..Self::default() }
    }
}

const FIRST_NAMES: &[&str] = &[
    "Ada",
    "Jürgen",
    "Zoë",
    "Siobhán",
    "Li",
    "Renée",
    "Ørjan",
    "Mary-Jane",
    "Łukasz",
    "Ana María",
    "Ngọc",
    "İpek",
    "björn",
    "JOHN",
    "Chloé",
    "Dmitri",
    "Fatma",
    "Søren",
    "Noël",
    "D'Arcy",
    "Wei",
    "Amélie",
    "Günther",
    "Paul",
    "Sofia",
    "Tom",
    "Eva",
    "山田",
    "Ольга",
    "Omar",
    "Priya",
    "Kwame",
    "Yusuf",
    "Inês",
    "Jo",
    "Max",
];
const LAST_NAMES: &[&str] = &[
    "O'Brien",
    "Müller",
    "García-López",
    "van der Berg",
    "Smith",
    "Nguyễn",
    "Ångström",
    "de la Cruz",
    "McDonald",
    "Šimůnek",
    "Weiß",
    "太郎",
    "Иванова",
    "Ó Súilleabháin",
    "Çelik",
    "Dąbrowski",
    "SMITH",
    "Jónsdóttir",
    "Nakamura",
    "Okafor",
    "D’Angelo",
    "Lindqvist",
    "Kowal",
    "Schmidt-Rottluff",
    "Fernández",
    "Ivanov",
    "Brown",
    "Li",
    "Østergård",
    "Haddad",
    "Singh",
    "Petrović",
];
const DEPARTMENTS: &[&str] =
    &["Engineering", "Sales", "R&D", "Fertigung Süd", "Finance & Controlling", "人事", "Support", "Legal"];
const DOMAINS: &[&str] =
    &["acme.example", "Acme-Corp.example", "tochter.acme.example", "müller-gmbh.example", "contractor.example"];
const GROUP_NAMES: &[&str] = &[
    "Engineering",
    "All staff (DE)",
    "Sales – EMEA",
    "\"Quoted\" group",
    "R&D <core>",
    "Équipe Paris",
    "チーム東京",
    "vpn-users",
    "App: Tracker/Admins",
    "Domain Users",
    " leading space",
    "100% remote",
    "back\\slash",
    "tooling",
];

/// One kind of app: integration name, label and how it behaves. The first kinds are made in every org.
type Kind = fn(usize) -> NewApp;
const KINDS: &[Kind] = &[
    |n| NewApp { template: Template::Email, ..NewApp::new("salesforce", &format!("Salesforce {n}")).provisioning() },
    |n| NewApp { template: Template::ShortName, ..NewApp::new("jira_onprem", &format!("Jira (prod) {n}")) },
    |n| NewApp::new("salesforce", &format!("Salesforce sandbox {n}")).provisioning(),
    |n| NewApp { template: Template::UpperShortName, ..NewApp::new("template_saml_2_0", &format!("SAP ERP {n}")) },
    |n| NewApp {
        sign_on: None,
        features: vec!["IMPORT_NEW_USERS", "IMPORT_PROFILE_UPDATES", "IMPORT_USER_SCHEMA", "PROFILE_MASTERING"],
        template: Template::UpperShortName,
        ..NewApp::new("active_directory", &format!("corp{n}.acme.example"))
    },
    |n| NewApp {
        sign_on: Some(SignOnMode::OpenIdConnect),
        oauth_type: Some("web"),
        ..NewApp::new("oidc_client", &format!("Größentool {n}"))
    },
    |n| NewApp {
        sign_on: Some(SignOnMode::BrowserPlugin),
        scheme: Some(Scheme::SharedUsernameAndPassword),
        shared_user_name: Some(format!("acme-finance{n}")),
        ..NewApp::new("template_swa", &format!("Bank portal {n}"))
    },
    |n| NewApp {
        sign_on: Some(SignOnMode::OpenIdConnect),
        oauth_type: Some("service"),
        ..NewApp::new("oidc_client", &format!("Nightly export {n}"))
    },
    |n| NewApp { sign_on: Some(SignOnMode::Bookmark), ..NewApp::new("bookmark", &format!("Canteen menu {n}")) },
    |n| NewApp {
        sign_on: Some(SignOnMode::SecurePasswordStore),
        scheme: Some(Scheme::EditUsernameAndPassword),
        template: Template::EmployeeNumber,
        ..NewApp::new("template_sps", &format!("Time & travel {n}"))
    },
    |n| NewApp { template: Template::Email, ..NewApp::new("google", &format!("Google Workspace {n}")).provisioning() },
    |n| NewApp {
        sign_on: Some(SignOnMode::OpenIdConnect),
        oauth_type: Some("browser"),
        ..NewApp::new("oidc_client", &format!("\"Wiki\" {n}"))
    },
];

impl Org {
    /// Generates an org; see [`Spec`]. Takes about a second for 100,000 users in a release build.
    pub fn generate(spec: &Spec) -> Self {
        let mut random = fastrand::Rng::with_seed(spec.seed);
        let mut org = Self::empty();
        // Three years of history before the virtual present.
        org.now_ms = START_MS - 3 * 365 * 86_400_000;
        org.found("Jo", "Admin", "jo.admin@acme.example");
        org.users.reserve(spec.users);
        for number in 1..=spec.users {
            let user = org.generated_user(number, &mut random);
            org.insert_user(user);
        }
        org.generate_apps(spec, &mut random);
        org.generate_groups(spec, &mut random);
        org.generate_assignments(spec, &mut random);
        org.settle_generated(&mut random);
        org.log.reseed(spec.seed);
        org.now_ms = START_MS;
        org
    }

    fn generated_user(&mut self, number: usize, random: &mut fastrand::Rng) -> User {
        let first = FIRST_NAMES[random.usize(0..FIRST_NAMES.len())];
        let last = LAST_NAMES[random.usize(0..LAST_NAMES.len())];
        let domain = DOMAINS[if random.u8(0..10) < 7 { 0 } else { random.usize(0..DOMAINS.len()) }];
        let plain = |text: &str| -> String { text.chars().filter(|character| character.is_alphanumeric()).collect() };
        let login = match random.u8(0..10) {
            0 => format!("{}.{}{number}@{domain}", plain(first), plain(last)),
            1 => format!("{}{number}@{domain}", plain(last).to_uppercase()),
            2 => format!("u{number:07}"),
            _ => format!("{}.{}{number}@{domain}", plain(first).to_lowercase(), plain(last).to_lowercase()),
        };
        let email = match random.u8(0..10) {
            _ if !login.contains('@') => Some(format!("{}.{number}@{domain}", plain(last).to_lowercase())),
            0 => Some(format!("{}.{}@{domain}", plain(first), plain(last))),
            1 => Some(login.to_uppercase()),
            _ => None,
        };
        let status = match random.u8(0..100) {
            0..84 => UserStatus::Active,
            84..92 => UserStatus::Deprovisioned,
            92..94 => UserStatus::Suspended,
            94..96 => UserStatus::Staged,
            96 => UserStatus::LockedOut,
            97 => UserStatus::PasswordExpired,
            98 => UserStatus::Recovery,
            _ => UserStatus::Provisioned,
        };
        let created_s = self.now_s() + random.u32(0..2 * 365 * 86_400);
        let later_s = created_s + random.u32(0..300 * 86_400);
        let never = status == UserStatus::Staged;
        let sparse = random.u8(0..20) == 0;
        User {
            status,
            provider: if random.u8(0..4) == 0 { Provider::ActiveDirectory } else { Provider::Okta },
            sparse,
            created_s,
            activated_s: if never || sparse { 0 } else { created_s + 32 },
            status_changed_s: if never { 0 } else { created_s + 32 },
            last_updated_s: later_s,
            last_login_s: if status == UserStatus::Active && !sparse { later_s } else { 0 },
            first_name: self.texts.key((!sparse).then_some(first)),
            last_name: self.texts.key(Some(last)),
            department: self.texts.key((!sparse).then(|| DEPARTMENTS[random.usize(0..DEPARTMENTS.len())])),
            employee_number: if sparse { 0 } else { 1_000 + u32::try_from(number).unwrap_or(0) },
            login: login.into(),
            email: email.map(Into::into),
            second_email: (random.u8(0..12) == 0).then(|| format!("home{number}@private.example").into()),
            display_name: None,
            custom: None,
            groups: Vec::new(),
            assignments: Vec::new(),
        }
    }

    fn generate_apps(&mut self, spec: &Spec, random: &mut fastrand::Rng) {
        for number in 0..spec.apps {
            let kind = match number {
                _ if number < KINDS.len() => number,
                // The one app that is INACTIVE in every org is one that has users.
                _ if number == KINDS.len() => 0,
                _ => random.usize(0..KINDS.len()),
            };
            let app = self.insert_app(&KINDS[kind](number));
            let inactive = number == KINDS.len() || (number > KINDS.len() && random.u8(0..12) == 0);
            let created_s = self.now_s() + random.u32(0..2 * 365 * 86_400);
            if let Ok(known) = self.app_mut(app) {
                known.status = if inactive { AppStatus::Inactive } else { AppStatus::Active };
                known.created_s = created_s;
                known.last_updated_s = created_s + random.u32(0..300 * 86_400);
            }
        }
    }

    /// Sizes fall off quickly: the first group holds 60 % of the users, every fifth is empty, the rest are small.
    fn generate_groups(&mut self, spec: &Spec, random: &mut fastrand::Rng) {
        let directories: Vec<u32> = self.app_indexes(|app| app.imports());
        for number in 0..spec.groups {
            let base = GROUP_NAMES[number % GROUP_NAMES.len()];
            let name = if number < GROUP_NAMES.len() {
                base.to_owned()
            } else {
                format!("{base} {}", number / GROUP_NAMES.len())
            };
            let source =
                (number % 4 == 3 && !directories.is_empty()).then(|| directories[random.usize(0..directories.len())]);
            let kind = if source.is_some() { GroupKind::App } else { GroupKind::Okta };
            let group = self.insert_group(kind, &name, source);
            let wanted = match number {
                0 => spec.users * 6 / 10,
                1 => spec.users / 10,
                _ if number % 5 == 4 => 0,
                _ => random.usize(1..=(spec.users / (number + 2)).clamp(1, 400)),
            };
            self.fill_group(group, wanted, spec.users, random);
        }
    }

    /// Draws every user once with the right chance, in ascending order, so that no insertion shifts anything.
    fn fill_group(&mut self, group: GroupRef, wanted: usize, users: usize, random: &mut fastrand::Rng) {
        let wanted = wanted.min(users);
        let mut members = Vec::with_capacity(wanted);
        if wanted * 20 > users {
            let (mut left, mut needed) = (users, wanted);
            for index in 1..=users {
                if random.usize(0..left) < needed {
                    members.push(index);
                    needed -= 1;
                }
                left -= 1;
            }
        } else {
            members.extend((0..wanted).map(|_| random.usize(1..=users)));
            members.sort_unstable();
            members.dedup();
        }
        let members: Vec<u32> = members.into_iter().filter_map(|index| u32::try_from(index).ok()).collect();
        for member in &members {
            if let Some(user) = self.users.get_mut(*member as usize).and_then(Option::as_mut) {
                user.groups.push(group.0);
            }
        }
        if let Ok(known) = self.group_mut(group) {
            known.members = members;
        }
    }

    fn app_indexes(&self, wanted: impl Fn(&App) -> bool) -> Vec<u32> {
        (0u32..).zip(&self.apps).filter(|(_, app)| app.as_ref().is_some_and(&wanted)).map(|(index, _)| index).collect()
    }

    /// Group grants first, then direct assignments up to the wanted number. A few apps take most of it.
    fn generate_assignments(&mut self, spec: &Spec, random: &mut fastrand::Rng) {
        let takers = self.app_indexes(|app| {
            !app.name.starts_with("okta_") && &*app.name != "saasure" && app.oauth_type != Some("service")
        });
        let budget = spec.users * spec.app_users_per_user;
        for (rank, app) in takers.iter().enumerate() {
            // Every sixth app has nobody; the others share the budget like 1, 1/2, 1/3, ...
            if rank % 6 == 5 && self.app(*app).is_some_and(|known| known.status == AppStatus::Active) {
                continue;
            }
            let share = (budget / 4 / (rank + 1)).max(1).min(spec.users);
            for position in 0..random.usize(0..4) {
                let group = random.usize(0..self.groups.len());
                let priority = i32::try_from(position * 3).unwrap_or(0);
                let group = u32::try_from(group).unwrap_or(0);
                if group != 0 && (self.member_count(group) <= share || rank == 0) {
                    self.link_app_group(*app, group, Some(priority));
                }
            }
            if rank == 0 {
                self.link_app_group(*app, 1, Some(9));
            }
            self.generate_app_users(AppRef(*app), share, spec.users, random);
        }
    }

    fn generate_app_users(&mut self, app: AppRef, share: usize, users: usize, random: &mut fastrand::Rng) {
        let groups: Vec<u32> = self
            .app(app.0)
            .map(|known| known.groups.iter().map(|assigned| assigned.group).collect())
            .unwrap_or_default();
        for group in groups {
            for user in self.members_after(group, None, usize::MAX) {
                if self.user(user).is_some_and(|known| known.status != UserStatus::Deprovisioned) {
                    self.insert_app_user(app.0, user, Scope::Group);
                }
            }
        }
        let start = random.usize(0..users.max(1));
        let existing = self.app(app.0).map_or(0, |known| known.live_users);
        // A stride coprime to most counts visits different users without a set of those already drawn.
        for step in 0..share.saturating_sub(existing) {
            let index = u32::try_from(1 + (start + step * 7_919) % users.max(1)).unwrap_or(1);
            let Some(known) = self.user(index) else { continue };
            let is_gone = known.status == UserStatus::Deprovisioned;
            let is_inactive = self.app(app.0).is_some_and(|known| known.status == AppStatus::Inactive);
            if !is_gone || is_inactive {
                self.insert_app_user(app.0, index, Scope::User);
            }
        }
    }

    /// Gives app users the states that years of use leave behind, and their dates.
    fn settle_generated(&mut self, random: &mut fastrand::Rng) {
        let now_s = self.now_s();
        for app in self.apps.iter_mut().flatten() {
            let (provisions, created_s) = (app.provisions(), app.created_s);
            for app_user in &mut app.users {
                app_user.created_s = created_s.max(now_s) + random.u32(0..200 * 86_400);
                app_user.status_changed_s = app_user.created_s + 21;
                app_user.last_updated_s = app_user.created_s + random.u32(21..100 * 86_400);
                let (status, sync, external) = match (provisions, random.u8(0..100)) {
                    (true, 0..4) => (AppUserStatus::Staged, SyncState::Error, false),
                    (true, 4..7) => (AppUserStatus::Deprovisioned, SyncState::Synchronized, true),
                    (true, 7) => (AppUserStatus::Suspended, SyncState::OutOfSync, true),
                    (true, _) => (AppUserStatus::Provisioned, SyncState::Synchronized, true),
                    (false, 0) => (
                        AppUserStatus::ALL[random.usize(0..AppUserStatus::ALL.len())],
                        app_user.sync,
                        app_user.has_external_id,
                    ),
                    (false, _) => (app_user.status, app_user.sync, app_user.has_external_id),
                };
                app_user.status = status;
                app_user.sync = sync;
                app_user.has_external_id = external;
                if random.u8(0..50) == 0 && status != AppUserStatus::Staged {
                    let own: Box<str> = format!("Custom.Näme{}", app_user.assignment).into();
                    app_user.overrides.get_or_insert_default().user_name = Some(own);
                }
            }
        }
    }
}
