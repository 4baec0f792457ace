//! What `okta-idmap config` prints: each value with its source.

use expect_test::expect;
use okta_idmap::config::Flags;

use super::{CANARY, Case, is_shown};

#[test]
fn the_effective_configuration_names_its_sources() {
    let flags = Flags { listen: Some("[::1]:9000".into()), ..Flags::default() };
    let case = Case::file(
        "[crawl]\ninterval = '90m'\n[resolve.name_rules]\n'Jira \"Cloud\"' = 'exact'\n[orgs.acme]\ndomain = 'acme.okta.com'",
    );
    let env = [("OKTA_IDMAP_API_TOKEN", CANARY), ("OKTA_IDMAP_ORGS__ACME__APPS__EXCLUDE", "Wiki,Slack")];
    let config = case.and_env(&env).and_flags(flags).config();
    let toml = config.effective_toml();
    assert!(!is_shown(&toml) && !is_shown(&format!("{config:?}")));
    expect![[r#"
        data_dir = "./okta-idmap-data" # default

        [log]
        level = "info" # default
        format = "text" # default

        [server]
        listen = "[::1]:9000" # flag --listen
        http_listen = "" # default
        http_allow_remote = false # default
        tls_cert_file = "" # default
        tls_key_file = "" # default
        tls_client_ca_file = "" # default
        tls_client_crl_file = "" # default
        tls_client_certificate = "required" # default
        allow_insecure_remote = false # default
        max_connections = 800 # default
        max_watches = 1000 # default
        max_client_calls = 200 # default
        max_client_watches = 16 # default
        max_client_calls_per_second = 0 # default
        max_client_answer_bytes = "256MiB" # default
        audit_lookups = false # default
        reflection = true # default
        max_message_bytes = "4MiB" # default
        max_concurrent_streams = 200 # default
        access_file = "" # default

        [client]
        server = "http://[::1]:9000" # flag --listen
        token_file = "" # default
        ca_file = "" # default
        cert_file = "" # default
        key_file = "" # default

        [index]
        commit_interval = "1s" # default
        writer_heap_bytes = "64MB" # default
        register = true # default

        [orgs.acme]
        domain = "https://acme.okta.com" # file okta-idmap.toml:6:1
        api_token = "***" # environment OKTA_IDMAP_API_TOKEN

        [orgs.acme.network]
        proxy = "auto" # default
        ca_file = "" # default

        [orgs.acme.crawl]
        interval = "1h30m" # file okta-idmap.toml:2:1, from [crawl]
        users_page_size = 200 # default
        groups_page_size = 200 # default
        group_members_page_size = 1000 # default
        apps_page_size = 200 # default
        app_users_page_size = 500 # default
        app_groups_page_size = 200 # default
        max_in_flight_per_bucket = 8 # default
        rate_limit_reserve = 0.1 # default

        [orgs.acme.follow]
        enabled = true # default
        poll_interval = "15s" # default
        debounce = "250ms" # default
        quiet = "30s" # default
        quiet_max = "5m" # default
        second_look = "3m" # default
        users_delta_interval = "30m" # default
        groups_delta_interval = "30m" # default
        apps_interval = "30m" # default
        relist_interval = "24h" # default
        unknown_events_max = 1000 # default

        [orgs.acme.brake]
        share = 0.2 # default
        rows = 50 # default
        retry_interval = "30s" # default
        retry_interval_max = "15m" # default

        [orgs.acme.coverage]
        stale_after = "3d" # default
        log_stale_after = "1h" # default
        on_gap = "keep" # default
        max_stale = "0s" # default

        [orgs.acme.changes]
        retention = "7d" # default
        max_rows = 5000000 # default

        [orgs.acme.groups]
        members = "all" # default

        [orgs.acme.apps]
        include = [] # default
        exclude = ["Slack", "Wiki"] # environment OKTA_IDMAP_ORGS__ACME__APPS__EXCLUDE
        built_in = false # default

        [orgs.acme.filter]
        mode = "all" # default
        email_domains = [] # default
        group_name_contains = [] # default
        skip_app_groups = false # default
        sync_inactive_apps = true # default
        skip_secondary_emails = false # default

        [orgs.acme.resolve]
        user_statuses = ["ACTIVE", "LOCKED_OUT", "PASSWORD_EXPIRED", "RECOVERY"] # default
        app_user_statuses = ["ACTIVE", "PROVISIONED"] # default
        second_email = false # default
        reuse_quarantine = "24h" # default
        aliases = [] # default
        overrides = [] # default

        [orgs.acme.resolve.name_rules]
        "Jira \"Cloud\"" = "exact" # file okta-idmap.toml:4:1, from [resolve.name_rules]
    "#]]
    .assert_eq(&toml);
    expect![[r#"
        data_dir = "./okta-idmap-data" # default

        [log]
        level = "info" # default
        format = "text" # default

        [server]
        listen = "127.0.0.1:8450" # default
        http_listen = "" # default
        http_allow_remote = false # default
        tls_cert_file = "" # default
        tls_key_file = "" # default
        tls_client_ca_file = "" # default
        tls_client_crl_file = "" # default
        tls_client_certificate = "required" # default
        allow_insecure_remote = false # default
        max_connections = 800 # default
        max_watches = 1000 # default
        max_client_calls = 200 # default
        max_client_watches = 16 # default
        max_client_calls_per_second = 0 # default
        max_client_answer_bytes = "256MiB" # default
        audit_lookups = false # default
        reflection = true # default
        max_message_bytes = "4MiB" # default
        max_concurrent_streams = 200 # default
        access_file = "" # default

        [client]
        server = "http://127.0.0.1:8450" # default
        token_file = "" # default
        ca_file = "" # default
        cert_file = "" # default
        key_file = "" # default

        [index]
        commit_interval = "1s" # default
        writer_heap_bytes = "64MB" # default
        register = true # default

        [network]
        proxy = "auto" # default
        ca_file = "" # default

        [crawl]
        interval = "24h" # default
        users_page_size = 200 # default
        groups_page_size = 200 # default
        group_members_page_size = 1000 # default
        apps_page_size = 200 # default
        app_users_page_size = 500 # default
        app_groups_page_size = 200 # default
        max_in_flight_per_bucket = 8 # default
        rate_limit_reserve = 0.1 # default

        [follow]
        enabled = true # default
        poll_interval = "15s" # default
        debounce = "250ms" # default
        quiet = "30s" # default
        quiet_max = "5m" # default
        second_look = "3m" # default
        users_delta_interval = "30m" # default
        groups_delta_interval = "30m" # default
        apps_interval = "30m" # default
        relist_interval = "24h" # default
        unknown_events_max = 1000 # default

        [brake]
        share = 0.2 # default
        rows = 50 # default
        retry_interval = "30s" # default
        retry_interval_max = "15m" # default

        [coverage]
        stale_after = "3d" # default
        log_stale_after = "1h" # default
        on_gap = "keep" # default
        max_stale = "0s" # default

        [changes]
        retention = "7d" # default
        max_rows = 5000000 # default

        [groups]
        members = "all" # default

        [apps]
        include = [] # default
        exclude = [] # default
        built_in = false # default

        [filter]
        mode = "all" # default
        email_domains = [] # default
        group_name_contains = [] # default
        skip_app_groups = false # default
        sync_inactive_apps = true # default
        skip_secondary_emails = false # default

        [resolve]
        user_statuses = ["ACTIVE", "LOCKED_OUT", "PASSWORD_EXPIRED", "RECOVERY"] # default
        app_user_statuses = ["ACTIVE", "PROVISIONED"] # default
        second_email = false # default
        reuse_quarantine = "24h" # default
        aliases = [] # default
        overrides = [] # default
    "#]]
    .assert_eq(&Case::default().config().effective_toml());
}
