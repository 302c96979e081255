//! What a weir says of itself, understood.

use serde_yaml::Value;

/// A status.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Report {
    pub(super) version: String,
    pub(super) pid: u64,
    pub(super) phase: String,
    pub(super) now_unix_ms: u64,
    pub(super) started_unix_s: u64,
    pub(super) adopted_unix_s: u64,
    pub(super) reloads_done: u64,
    pub(super) reloads_refused: u64,
    pub(super) workers_wanted: u64,
    pub(super) listeners: Vec<ListenerReport>,
    pub(super) upstreams: Vec<UpstreamReport>,
}

/// A listener.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ListenerReport {
    pub(super) name: String,
    pub(super) address: String,
    pub(super) mode: String,
    pub(super) accepted: u64,
    pub(super) active: u64,
    pub(super) requests: u64,
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
    pub(super) expires_unix_s: Option<i64>,
}

/// An upstream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct UpstreamReport {
    pub(super) name: String,
    pub(super) algorithm: String,
    pub(super) backends: Vec<BackendReport>,
}

/// A backend.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct BackendReport {
    pub(super) name: String,
    pub(super) configured_weight: u64,
    pub(super) weight: u64,
    pub(super) administered: String,
    pub(super) observed: String,
    pub(super) reason: Option<String>,
    pub(super) since_ms: Option<u64>,
    pub(super) active: u64,
    pub(super) picks: u64,
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
    pub(super) failures: u64,
    pub(super) retries: u64,
}

impl BackendReport {
    /// Whether it is not as the file has it.
    pub(super) fn is_steered(&self) -> bool {
        self.administered != "enabled" || self.weight != self.configured_weight
    }
}

impl Report {
    /// How many sessions an upstream or a backend has; none where it is not there.
    pub(super) fn active_of(&self, target: &str) -> Option<u64> {
        let mut upstreams = self.upstreams.iter();
        if let Some(whole) = upstreams.find(|it| it.name == target) {
            return Some(whole.backends.iter().map(|it| it.active).sum());
        }
        // Both names may have slashes.
        let in_upstream = |it: &UpstreamReport| {
            let name = target.strip_prefix(it.name.as_str())?.strip_prefix('/')?;
            let backend = it.backends.iter().find(|it| it.name == name)?;
            Some(backend.active)
        };
        self.upstreams.iter().find_map(in_upstream)
    }

    /// That of a text in JSON, which is YAML, too.
    pub(super) fn read(text: &str) -> Option<Self> {
        let value: Value = serde_yaml::from_str(text).ok()?;
        let at = &value;
        Some(Self {
            version: text_of(at, "version"),
            pid: number(at, "pid"),
            phase: text_of(at, "phase"),
            now_unix_ms: number(at, "now_unix_ms"),
            started_unix_s: number(at, "started_unix_s"),
            adopted_unix_s: number(at, "adopted_unix_s"),
            reloads_done: number(at, "reloads_done"),
            reloads_refused: number(at, "reloads_refused"),
            workers_wanted: number(at, "workers_wanted"),
            listeners: list(at, "listeners").iter().map(listener).collect(),
            upstreams: list(at, "upstreams").iter().map(upstream).collect(),
        })
    }
}

fn listener(at: &Value) -> ListenerReport {
    ListenerReport {
        name: text_of(at, "name"),
        address: text_of(at, "address"),
        mode: text_of(at, "mode"),
        accepted: number(at, "accepted"),
        active: number(at, "active"),
        requests: number(at, "requests"),
        bytes_in: number(at, "bytes_in"),
        bytes_out: number(at, "bytes_out"),
        expires_unix_s: at.get("expires_unix_s").and_then(Value::as_i64),
    }
}

fn upstream(at: &Value) -> UpstreamReport {
    UpstreamReport {
        name: text_of(at, "name"),
        algorithm: text_of(at, "algorithm"),
        backends: list(at, "backends").iter().map(backend).collect(),
    }
}

fn backend(at: &Value) -> BackendReport {
    BackendReport {
        name: text_of(at, "name"),
        configured_weight: number(at, "configured_weight"),
        weight: number(at, "weight"),
        administered: text_of(at, "administered"),
        observed: text_of(at, "observed"),
        reason: at.get("reason").and_then(Value::as_str).map(str::to_owned),
        since_ms: at.get("since_ms").and_then(Value::as_u64),
        active: number(at, "active"),
        picks: number(at, "picks"),
        bytes_in: number(at, "bytes_in"),
        bytes_out: number(at, "bytes_out"),
        failures: number(at, "connect_failures") + number(at, "answer_failures"),
        retries: number(at, "retries"),
    }
}

/// A route.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct RouteReport {
    pub(super) listener: String,
    pub(super) host: String,
    pub(super) path: String,
    pub(super) methods: String,
    pub(super) leads_to: String,
    pub(super) policy: String,
    /// 2xx to 5xx; none where they are not counted.
    pub(super) responses: [Option<u64>; 4],
}

impl RouteReport {
    /// Those of a text in JSON.
    pub(super) fn read_all(text: &str) -> Option<Vec<Self>> {
        let value: Value = serde_yaml::from_str(text).ok()?;
        let all = value.get("routes")?.as_sequence()?;
        Some(all.iter().map(route).collect())
    }
}

fn route(at: &Value) -> RouteReport {
    let class = |key: &str| at.get("responses")?.get(key)?.as_u64();
    RouteReport {
        listener: text_of(at, "listener"),
        host: text_of(at, "host"),
        path: text_of(at, "path"),
        methods: text_of(at, "methods"),
        leads_to: text_of(at, "leads_to"),
        policy: text_of(at, "policy"),
        responses: ["2xx", "3xx", "4xx", "5xx"].map(class),
    }
}

/// Sessions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct SessionsReport {
    pub(super) sessions: Vec<SessionReport>,
    pub(super) is_complete: bool,
    /// Processes that have not told theirs.
    pub(super) silent_pids: Vec<u64>,
}

/// A session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct SessionReport {
    pub(super) id: String,
    pub(super) listener: String,
    pub(super) client: String,
    pub(super) backend: String,
    pub(super) state: String,
    pub(super) age_ms: u64,
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
    pub(super) requests: u64,
}

impl SessionsReport {
    /// Those of a text in JSON.
    pub(super) fn read(text: &str) -> Option<Self> {
        let value: Value = serde_yaml::from_str(text).ok()?;
        let silent = list(&value, "silent_pids").iter();
        Some(Self {
            sessions: list(&value, "sessions").iter().map(session).collect(),
            is_complete: value.get("complete").and_then(Value::as_bool)?,
            silent_pids: silent.filter_map(Value::as_u64).collect(),
        })
    }
}

fn session(at: &Value) -> SessionReport {
    SessionReport {
        id: text_of(at, "id"),
        listener: text_of(at, "listener"),
        client: text_of(at, "client"),
        backend: text_of(at, "backend"),
        state: text_of(at, "state"),
        age_ms: number(at, "age_ms"),
        bytes_in: number(at, "bytes_in"),
        bytes_out: number(at, "bytes_out"),
        requests: number(at, "requests"),
    }
}

fn text_of(at: &Value, key: &str) -> String {
    let text = at.get(key).and_then(Value::as_str);
    text.unwrap_or_default().to_owned()
}

fn number(at: &Value, key: &str) -> u64 {
    at.get(key).and_then(Value::as_u64).unwrap_or(0)
}

fn list<'a>(at: &'a Value, key: &str) -> &'a [Value] {
    let list = at.get(key).and_then(Value::as_sequence);
    list.map_or(&[], Vec::as_slice)
}
