//! JSON of the objects of the org, from compact structs, in the shapes of facts 14 and 15.

use super::Context;
use crate::ids::{AppRef, GroupRef, IdKind, UserRef, encode};
use crate::json::{Object, strings};
use crate::org::types::{AppGroup, AppUser, User};
use crate::org::{GroupKind, Scheme, Scope};
use crate::time::iso_seconds;

/// A status that no documentation knows (facts 13.24).
const UNKNOWN_VALUE: &str = "NEW_IN_2027";

/// `null`, or nothing at all if nulls are left out.
fn nullable(object: Object, key: &str, value: Option<&str>, omit: bool) -> Object {
    if value.is_none() && omit { object } else { object.text_or_null(key, value) }
}

fn date(at_s: u32) -> Option<String> {
    (at_s > 0).then(|| iso_seconds(at_s))
}

impl Context<'_> {
    fn enum_value(&self, index: u32, value: &'static str) -> &'static str {
        if self.quirks.unknown_enum_values && index % 5 == 2 { UNKNOWN_VALUE } else { value }
    }

    /// A user; `is_list_item` decides which links it has (facts 15.14).
    pub(crate) fn render_user(&self, index: u32, is_list_item: bool) -> String {
        let Some(user) = self.org.user(index) else { return String::from("{}") };
        self.render_user_as(index, user, is_list_item)
    }

    /// A user in a given state, which may be an earlier one.
    pub(crate) fn render_user_as(&self, index: u32, user: &User, is_list_item: bool) -> String {
        let omit = user.sparse || self.quirks.omit_nulls;
        let id = UserRef(index).id();
        let mut object = Object::new()
            .text("id", &id)
            .text("status", self.enum_value(index, user.status.as_str()))
            .text("created", &iso_seconds(user.created_s));
        object = nullable(object, "activated", date(user.activated_s).as_deref(), omit);
        object = nullable(object, "statusChanged", date(user.status_changed_s).as_deref(), omit);
        object = nullable(object, "lastLogin", date(user.last_login_s).as_deref(), omit);
        object = object.text("lastUpdated", &iso_seconds(user.last_updated_s));
        object = nullable(object, "passwordChanged", None, omit);
        object = object.object("type", Object::new().text("id", &encode(IdKind::UserType, 0)));
        object = object.raw("profile", &self.render_profile(index, user, omit));
        let header = self.request.header("content-type").unwrap_or_default();
        let omits_credentials = ["omitCredentials", "omitCredentialsLinks", "omitTransitioningToStatus"]
            .iter()
            .all(|value| header.contains(value));
        if !omits_credentials {
            let name = if user.provider == crate::org::Provider::Okta { "OKTA" } else { "corp.acme.example" };
            let provider = Object::new().text("type", user.provider.as_str()).text("name", name);
            object = object.object("credentials", Object::new().object("provider", provider));
        }
        let own = self.url(&format!("/api/v1/users/{id}"));
        let mut links = Object::new().link("self", &own);
        if !is_list_item {
            let kind = encode(IdKind::UserType, 0);
            links = links.link("type", &self.url(&format!("/api/v1/meta/types/user/{kind}")));
            links = links.object(
                "deactivate",
                Object::new().text("href", &format!("{own}/lifecycle/deactivate")).text("method", "POST"),
            );
        }
        object.object("_links", links).end()
    }

    fn render_profile(&self, index: u32, user: &User, omit: bool) -> String {
        let text = |key| self.org.texts.text(key);
        let mut profile = Object::new();
        profile = nullable(profile, "firstName", text(user.first_name), omit);
        profile = nullable(profile, "lastName", text(user.last_name), omit);
        profile = nullable(profile, "mobilePhone", None, omit);
        profile = nullable(profile, "secondEmail", user.second_email.as_deref(), omit);
        profile = profile.text("login", &user.login).text("email", user.email());
        profile = nullable(profile, "department", text(user.department), true);
        profile = nullable(profile, "displayName", user.display_name.as_deref(), true);
        let number = crate::org::employee_number(user);
        profile = nullable(profile, "employeeNumber", number.as_deref(), true);
        // Custom attributes of every seventh user: values other than strings (facts 13.20).
        if self.quirks.custom_profile_values || index % 7 == 3 {
            profile = profile
                .raw("badgeIds", &strings([format!("b-{index}"), format!("b-{}", index + 1)]))
                .boolean("onCall", index.is_multiple_of(2))
                .number("costCenter", i64::from(index % 90) + 100)
                .raw("floorRatio", "2.5");
        }
        for (name, value) in user.custom.iter().flat_map(|custom| custom.iter()) {
            profile = profile.raw(name, &value.to_string());
        }
        profile.end()
    }

    /// `usersCount`: what the org has, or what the credential sees of it.
    fn counted_members(&self, group: u32) -> usize {
        if !self.hidden.left_out_of_stats {
            return self.org.member_count(group);
        }
        let members = self.org.members_after(group, None, usize::MAX);
        members.into_iter().filter(|user| self.names_user(*user)).count()
    }

    fn counted_apps(&self, apps: &[u32]) -> usize {
        if self.hidden.left_out_of_stats { apps.iter().filter(|app| self.names_app(**app)).count() } else { apps.len() }
    }

    pub(crate) fn render_group(&self, index: u32) -> String {
        let Some(group) = self.org.group(index) else { return String::from("{}") };
        let id = GroupRef(index).id();
        let is_directory_group = group.kind == GroupKind::App;
        let class = if is_directory_group { "okta:windows_security_principal" } else { "okta:user_group" };
        let mut profile =
            Object::new().text("name", &group.name).text_or_null("description", group.description.as_deref());
        if is_directory_group {
            profile = profile
                .text("samAccountName", &group.name)
                .text("dn", &format!("CN={},OU=Groups,DC=corp,DC=acme,DC=example", group.name))
                .text("windowsDomainQualifiedName", &format!("CORP\\{}", group.name))
                .text("externalId", &format!("{:024x}==", u64::from(index) * 7_919));
        }
        let mut object = Object::new()
            .text("id", &id)
            .text("created", &iso_seconds(group.created_s))
            .text("lastUpdated", &iso_seconds(group.last_updated_s))
            .text("lastMembershipUpdated", &iso_seconds(group.last_membership_updated_s))
            .raw("objectClass", &strings([class]))
            .text("type", self.enum_value(index, group.kind.as_str()))
            .object("profile", profile);
        let mut links = Object::new();
        let source = group.source_app.filter(|app| self.names_app(*app));
        let mut embedded = Object::new();
        let mut has_embedded = false;
        if self.expands("stats") {
            let spelling =
                if self.quirks.admin_privilege_spelt_right { "hasAdminPrivilege" } else { "hasAdminPrivlege" };
            let count = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
            let stats = Object::new()
                .number("usersCount", count(self.counted_members(index)))
                .number("appsCount", count(self.counted_apps(&group.apps)))
                .number("groupPushMappingsCount", 0)
                .boolean(spelling, false);
            embedded = embedded.object("stats", stats);
            has_embedded = true;
        }
        if let Some(app) = source {
            links = links.link("source", &self.url(&format!("/api/v1/apps/{}", AppRef(app).id())));
            if let Some(known) = self.org.app(app).filter(|_| self.expands("app")) {
                let brief = Object::new()
                    .text("id", &AppRef(app).id())
                    .text("name", &known.name)
                    .text("label", &known.label)
                    .text_or_null("signOnMode", known.sign_on.map(|mode| mode.as_str()));
                embedded = embedded.object("app", brief);
                has_embedded = true;
            }
        }
        if has_embedded {
            object = object.object("_embedded", embedded);
        }
        links = links.link("users", &self.url(&format!("/api/v1/groups/{id}/users")));
        links = links.link("apps", &self.url(&format!("/api/v1/groups/{id}/apps")));
        object.object("_links", links).end()
    }

    /// An app, with the app user of `expand=user/{id}` embedded if there is one.
    pub(crate) fn render_app(&self, index: u32, embedded_user: Option<u32>) -> String {
        let Some(app) = self.org.app(index) else { return String::from("{}") };
        let id = AppRef(index).id();
        let template = Object::new().text("template", app.template.as_str()).text("type", app.template.kind());
        let mut credentials = Object::new().object("userNameTemplate", template);
        if let Some(scheme) = app.scheme {
            credentials = credentials.text("scheme", scheme.as_str());
            if scheme == Scheme::SharedUsernameAndPassword {
                credentials =
                    credentials.text_or_null("userName", app.shared_user_name.as_deref()).raw("password", "{}");
            }
        } else {
            credentials = credentials.raw("signing", "{}");
        }
        let mut settings =
            Object::new().raw("app", "{}").raw("notifications", r#"{"vpn":{"network":{"connection":"DISABLED"}}}"#);
        if app.implicit_assignment {
            settings = settings.boolean("implicitAssignment", true);
        }
        if let Some(kind) = app.oauth_type {
            credentials = credentials.object("oauthClient", Object::new().text("client_id", &id));
            settings = settings.object("oauthClient", Object::new().text("application_type", kind));
        }
        let hide = Object::new().boolean("iOS", false).boolean("web", false);
        let visibility = Object::new()
            .boolean("autoLaunch", false)
            .boolean("autoSubmitToolbar", false)
            .object("hide", hide)
            .object("appLinks", Object::new().boolean(&format!("{}_link", app.name), true));
        let users = self.url(&format!("/api/v1/apps/{id}/users"));
        let groups = self.url(&format!("/api/v1/apps/{id}/groups"));
        let mut object = Object::new()
            .text("id", &id)
            .text("name", &app.name)
            .text("label", &app.label)
            .text("status", self.enum_value(index, app.status.as_str()))
            .text("lastUpdated", &iso_seconds(app.last_updated_s))
            .text("created", &iso_seconds(app.created_s))
            .object("visibility", visibility)
            .raw("features", &strings(&app.features));
        let mode = app.sign_on.map(|mode| self.enum_value(index, mode.as_str()));
        object = nullable(object, "signOnMode", mode, self.quirks.omit_nulls)
            .object("credentials", credentials)
            .object("settings", settings);
        if let Some(user) = embedded_user.and_then(|user| self.org.app_user(index, user)) {
            object = object.object("_embedded", Object::new().raw("user", &self.render_app_user(index, user)));
        }
        object.object("_links", Object::new().link("users", &users).link("groups", &groups)).end()
    }

    pub(crate) fn render_app_user(&self, app: u32, app_user: &AppUser) -> String {
        let Some(known) = self.org.app(app) else { return String::from("{}") };
        let Some(user) = self.org.user(app_user.user) else { return String::from("{}") };
        let omit = self.quirks.omit_nulls || app_user.assignment % 9 == 8;
        let id = UserRef(app_user.user).id();
        let mut object = Object::new().text("id", &id);
        let external_id = self.org.external_id_of(known, app_user);
        object = nullable(object, "externalId", external_id.as_deref(), omit)
            .text("created", &iso_seconds(app_user.created_s))
            .text("lastUpdated", &iso_seconds(app_user.last_updated_s))
            .text("scope", app_user.scope.as_str())
            .text("status", self.enum_value(app_user.assignment, app_user.status.as_str()));
        object = nullable(object, "statusChanged", date(app_user.status_changed_s).as_deref(), omit);
        object = nullable(object, "passwordChanged", None, omit).text("syncState", app_user.sync.as_str());
        if external_id.is_some() {
            object = object.text("lastSync", &iso_seconds(app_user.last_updated_s));
        }
        if let Some(user_name) = self.org.user_name_of(known, app_user) {
            let credentials = Object::new().text("userName", &user_name);
            object = if self.quirks.stray_quote_key {
                object.object("credentials\"", Object::new()).object("credentials", credentials)
            } else {
                object.object("credentials", credentials)
            };
        }
        if !omit {
            let mut profile = Object::new();
            if known.provisions() {
                profile = profile.text("email", user.email()).text("role", "member").number("seats", 1);
            } else if known.oauth_type.is_some() {
                let given = self.org.texts.text(user.first_name);
                profile = profile.text_or_null("given_name", given).text("preferred_username", &user.login);
            }
            object = object.object("profile", profile);
        }
        let mut links = Object::new()
            .link("app", &self.url(&format!("/api/v1/apps/{}", AppRef(app).id())))
            .link("user", &self.url(&format!("/api/v1/users/{id}")));
        if app_user.scope == Scope::Group
            && let Some(best) = self.org.granting(app, app_user.user).first()
            && let Some(group) = self.org.group(*best)
        {
            let href = self.url(&format!("/api/v1/groups/{}", GroupRef(*best).id()));
            links = links.object("group", Object::new().text("name", &group.name).text("href", &href));
        }
        if self.expands("user") {
            object = object.object("_embedded", Object::new().raw("user", &self.render_user(app_user.user, false)));
        }
        object.object("_links", links).end()
    }

    pub(crate) fn render_app_group(&self, app: u32, assigned: &AppGroup) -> String {
        let (app_id, group_id) = (AppRef(app).id(), GroupRef(assigned.group).id());
        let own = self.url(&format!("/api/v1/apps/{app_id}/groups/{group_id}"));
        let links = Object::new()
            .link("app", &self.url(&format!("/api/v1/apps/{app_id}")))
            .link("self", &own)
            .link("group", &self.url(&format!("/api/v1/groups/{group_id}")));
        let mut object = Object::new()
            .text("id", &group_id)
            .text("lastUpdated", &iso_seconds(assigned.last_updated_s))
            .number("priority", i64::from(assigned.priority))
            .raw("profile", "{}");
        if self.expands("group") {
            object = object.object("_embedded", Object::new().raw("group", &self.render_group(assigned.group)));
        }
        object.object("_links", links).end()
    }
}
