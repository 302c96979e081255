//! Lines of the access log in every form.

use super::*;
use crate::core::access_log::escape::{push_clf_time, push_rfc3339};
use crate::core::access_log::form::{
    FIELDS_MAX, FORMAT_BYTES_MAX, Form, FormatError, SyslogFormat, field_names,
};

const BILLION_MS: u64 = 1_000_000_000_123;

fn http() -> Record<'static> {
    Record {
        unix_ms: BILLION_MS,
        id: RequestId::Taken(b"0000000000000abc"),
        worker: 3,
        client: Some(IpAddr::V4([192, 0, 2, 1].into())),
        client_port: Some(4711),
        listener: "web",
        request: Some(REQUEST),
        head_bytes_in: 80,
        body_bytes_in: 5,
        head_bytes_out: 234,
        body_bytes_out: 1000,
        upstream: Some("app"),
        backend: Some("10.0.0.1:80"),
        attempts: 2,
        timings: Timings {
            wait_us: Some(1_002),
            queue_us: None,
            connect_us: Some(20),
            ttfb_us: Some(3_300),
            duration_us: 9_000_001,
        },
        why: Why::Ok,
        reason: None,
        closed_by: None,
        sni: None,
        tls: None,
    }
}

const REQUEST: RequestRecord<'static> = RequestRecord {
    host: b"a.test",
    method: b"GET",
    path: b"/x?y=1",
    protocol: "HTTP/1.1",
    status: Some(200),
    route: Some("a.test/"),
    sticky: Some(StickyUse::New),
    traceparent: None,
    request_fields: &[],
    response_fields: &[],
};

fn tcp() -> Record<'static> {
    Record {
        id: RequestId::Taken(b"0000000000000001"),
        listener: "db",
        request: None,
        head_bytes_in: 0,
        body_bytes_in: 0,
        head_bytes_out: 0,
        body_bytes_out: 7,
        upstream: Some("sql"),
        backend: None,
        attempts: 3,
        timings: Timings {
            duration_us: 5_000_000,
            ..Timings::default()
        },
        why: Why::ConnectTimeout,
        closed_by: Some(ClosedBy::Weir),
        ..http()
    }
}

/// The built-in forms: common, combined, JSON.
fn forms() -> [Form; 3] {
    [Form::common(), Form::combined(), Form::json()]
}

fn written(record: &Record<'_>, form: &Form) -> String {
    line(|out| record.write(form, out))
}

/// A line in a format of one's own, without its newline.
fn own(record: &Record<'_>, format: &str) -> String {
    let form = Form::parse(format).expect("a good format");
    written(record, &form).trim_end_matches('\n').to_owned()
}

fn line(write: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut out = Vec::new();
    write(&mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn times_are_those_of_the_calendar() {
    for (unix_s, rfc3339, clf) in [
        (0, "1970-01-01T00:00:00.007Z", "01/Jan/1970:00:00:00 +0000"),
        (
            951_782_400,
            "2000-02-29T00:00:00.007Z",
            "29/Feb/2000:00:00:00 +0000",
        ),
        (
            951_868_799,
            "2000-02-29T23:59:59.007Z",
            "29/Feb/2000:23:59:59 +0000",
        ),
        (
            951_868_800,
            "2000-03-01T00:00:00.007Z",
            "01/Mar/2000:00:00:00 +0000",
        ),
        (
            1_000_000_000,
            "2001-09-09T01:46:40.007Z",
            "09/Sep/2001:01:46:40 +0000",
        ),
        (
            1_709_164_800,
            "2024-02-29T00:00:00.007Z",
            "29/Feb/2024:00:00:00 +0000",
        ),
        (
            1_735_689_599,
            "2024-12-31T23:59:59.007Z",
            "31/Dec/2024:23:59:59 +0000",
        ),
        (
            1_735_689_600,
            "2025-01-01T00:00:00.007Z",
            "01/Jan/2025:00:00:00 +0000",
        ),
        (
            4_107_542_400,
            "2100-03-01T00:00:00.007Z",
            "01/Mar/2100:00:00:00 +0000",
        ),
    ] {
        let unix_ms = unix_s * 1000 + 7;
        assert_eq!(line(|out| push_rfc3339(unix_ms, out)), rfc3339);
        assert_eq!(line(|out| push_clf_time(unix_ms, out)), clf);
    }
}

/// What a JSON line of the request begins and ends with, around what differs.
const JSON: &str = concat!(
    r#"{"ts":"2001-09-09T01:46:40.123Z","id":"0000000000000abc","worker":3,"#,
    r#""client":"192.0.2.1","client_port":4711,"listener":"web","host":"a.test","#,
    r#""method":"GET","path":"/x?y=1","protocol":"HTTP/1.1","status":200,"bytes_in":85,"#,
    r#""bytes_out":1234,"body_bytes_in":5,"body_bytes_out":1000,"route":"a.test/","#,
    r#""upstream":"app","backend":"10.0.0.1:80","attempts":2,"wait_ms":1.002,"#,
    r#""queue_ms":null,"connect_ms":0.020,"ttfb_ms":3.300,"duration_ms":9000.001,"#,
    r#""why":"ok","closed_by":null,"user_agent":"curl/8","referer":null,"sticky":"new","#,
    r#""traceparent":null,"#,
    r#""sni":null,"tls_version":null,"tls_cipher":null,"tls_resumed":null,"#,
    r#""client_verify":null}"#,
    "\n",
);

#[test]
fn a_request_has_its_line_in_every_format() {
    let common = "192.0.2.1 - - [09/Sep/2001:01:46:40 +0000] \"GET /x?y=1 HTTP/1.1\" 200 1234";
    let combined = format!(
        "{common} \"-\" \"curl/8\" upstream=app/10.0.0.1:80 attempts=2 \
         connect_ms=0.020 ttfb_ms=3.300 total_ms=9000.001 why=--\n"
    );
    let [as_common, as_combined, as_json] = forms();
    let agent = Some(b"curl/8".to_vec());
    let with = |fields: &[Option<Vec<u8>>], form: &Form| {
        let request = RequestRecord {
            request_fields: fields,
            ..REQUEST
        };
        written(
            &Record {
                request: Some(request),
                ..http()
            },
            form,
        )
    };
    assert_eq!(with(&[], &as_common), format!("{common}\n"));
    assert_eq!(as_combined.request_fields(), ["Referer", "User-Agent"]);
    assert_eq!(with(&[None, agent.clone()], &as_combined), combined);
    assert_eq!(as_json.request_fields(), ["User-Agent", "Referer"]);
    assert_eq!(with(&[agent, None], &as_json), JSON);
}

#[test]
fn a_session_has_its_line_in_every_format_with_the_keys_of_a_request() {
    let common = "192.0.2.1 - - [09/Sep/2001:01:46:40 +0000] \"TCP db\" - 7";
    let combined = format!(
        "{common} \"-\" \"-\" upstream=sql/- attempts=3 connect_ms=- ttfb_ms=- \
         total_ms=5000.000 why=sC\n"
    );
    let json = concat!(
        r#"{"ts":"2001-09-09T01:46:40.123Z","id":"0000000000000001","worker":3,"#,
        r#""client":"192.0.2.1","client_port":4711,"listener":"db","host":null,"#,
        r#""method":null,"path":null,"protocol":"TCP","status":null,"bytes_in":0,"#,
        r#""bytes_out":7,"body_bytes_in":0,"body_bytes_out":7,"route":null,"#,
        r#""upstream":"sql","backend":null,"attempts":3,"wait_ms":null,"#,
        r#""queue_ms":null,"connect_ms":null,"ttfb_ms":null,"duration_ms":5000.000,"#,
        r#""why":"connect timeout","closed_by":"weir","user_agent":null,"referer":null,"#,
        r#""sticky":null,"traceparent":null,"sni":null,"tls_version":null,"tls_cipher":null,"#,
        r#""tls_resumed":null,"client_verify":null}"#,
        "\n",
    );
    let [as_common, as_combined, as_json] = forms();
    assert_eq!(written(&tcp(), &as_common), format!("{common}\n"));
    assert_eq!(written(&tcp(), &as_combined), combined);
    assert_eq!(written(&tcp(), &as_json), json);
    let named = Record {
        sni: Some("a.example"),
        ..tcp()
    };
    let combined = written(&named, &as_combined);
    assert!(combined.ends_with(" why=sC sni=a.example\n"), "{combined}");
    let json = written(&named, &as_json);
    assert!(json.contains(r#","sni":"a.example","#), "{json}");
}

#[test]
fn what_tls_has_agreed_on_follows_all_else() {
    let tls = TlsRecord {
        sni: Some("a.example"),
        version: "TLSv1.3",
        cipher: "TLS_AES_128_GCM_SHA256",
        is_resumed: false,
        is_verified: Some(true),
    };
    let [_, as_combined, as_json] = forms();
    let secured = Record {
        sni: tls.sni,
        tls: Some(tls),
        ..http()
    };
    let combined = written(&secured, &as_combined);
    let facts = " sni=a.example tls_version=TLSv1.3 tls_cipher=TLS_AES_128_GCM_SHA256 \
                 tls_resumed=no client_verify=ok\n";
    assert!(combined.ends_with(facts), "{combined}");
    let json = written(&secured, &as_json);
    let facts = concat!(
        r#","sni":"a.example","tls_version":"TLSv1.3","tls_cipher":"TLS_AES_128_GCM_SHA256","#,
        r#""tls_resumed":false,"client_verify":"ok"}"#,
        "\n"
    );
    assert!(json.ends_with(facts), "{json}");
    let resumed = Record {
        tls: Some(TlsRecord {
            is_resumed: true,
            is_verified: None,
            ..tls
        }),
        ..tcp()
    };
    let combined = written(&resumed, &as_combined);
    let facts = " tls_resumed=yes client_verify=-\n";
    assert!(combined.ends_with(facts), "{combined}");
    let json = written(&resumed, &as_json);
    let facts = "\"tls_resumed\":true,\"client_verify\":null}\n";
    assert!(json.ends_with(facts), "{json}");
}

#[test]
fn the_reason_follows_the_why() {
    let refused = Record {
        why: Why::Refused,
        reason: Some("no Host"),
        ..http()
    };
    let failed = Record {
        why: Why::ConnectFailed,
        reason: Some("connection refused"),
        ..tcp()
    };
    let combined = written(&refused, &Form::combined());
    assert!(
        combined.ends_with(" why=PR reason=\"no Host\"\n"),
        "{combined}"
    );
    let combined = written(&failed, &Form::combined());
    assert!(combined.ends_with(" why=SC reason=\"connection refused\"\n"));
    let json = written(&refused, &Form::json());
    assert!(
        json.contains(r#","why":"refused by proxy: no Host","closed_by":"#),
        "{json}"
    );
    let json = written(&failed, &Form::json());
    assert!(
        json.contains(r#","why":"connect failed: connection refused","#),
        "{json}"
    );
    let common = written(&refused, &Form::common());
    assert_eq!(common, written(&http(), &Form::common()));
}

#[test]
fn a_request_that_was_never_read_has_a_line() {
    let record = Record {
        client: None,
        request: Some(RequestRecord {
            method: b"",
            path: b"",
            host: b"",
            status: None,
            ..REQUEST
        }),
        ..http()
    };
    let common = written(&record, &Form::common());
    assert_eq!(common, "- - - [09/Sep/2001:01:46:40 +0000] \"-\" - 1234\n");
    let json = written(&record, &Form::json());
    assert!(json.contains(r#""client":null,"#), "{json}");
    assert!(json.contains(r#""host":null,"method":null,"path":null,"#));
    assert!(json.contains(r#""status":null,"#));
}

/// The user agent alone, in the place that a format gives it.
fn agent(value: &[u8], format: &str) -> String {
    let fields = [Some(value.to_vec())];
    let request = RequestRecord {
        request_fields: &fields,
        ..REQUEST
    };
    let record = Record {
        request: Some(request),
        ..http()
    };
    own(&record, format)
}

#[test]
fn what_a_client_sends_stays_within_its_quotes() {
    for (value, text, json) in [
        (&b"a b"[..], "a b", "a b"),
        (b"\"\\", r"\x22\x5C", r#"\"\\"#),
        (
            b"\r\n\x1b[2J\x7f",
            r"\x0D\x0A\x1B[2J\x7F",
            r"\u000d\u000a\u001b[2J\u007f",
        ),
        (b"\xc3\xa9", r"\xC3\xA9", "\u{e9}"),
        (
            b"\xc2\x9b\xe2\x80\xa8",
            r"\xC2\x9B\xE2\x80\xA8",
            r"\u009b\u2028",
        ),
        (b"a\xff\xc3", r"a\xFF\xC3", "a\u{fffd}\u{fffd}"),
    ] {
        assert_eq!(agent(value, r#""{user_agent}""#), format!("\"{text}\""));
        let written = agent(value, r#"{{"ua":"{user_agent}"}}"#);
        assert_eq!(written, format!("{{\"ua\":\"{json}\"}}"));
        let written = agent(value, r#"{{"ua":{user_agent}}}"#);
        assert_eq!(written, format!("{{\"ua\":\"{json}\"}}"));
    }
}

#[test]
fn what_a_client_sends_stays_within_its_word() {
    for (value, format, expected) in [
        (&b"a b|c"[..], "{user_agent} x", r"a\x20b|c x"),
        (b"a b|c", "{user_agent}|x", r"a\x20b\x7Cc|x"),
        (b"a b,c", "[{user_agent}, x]", r"[a\x20b\x2Cc, x]"),
        (b"a b]c", "[{user_agent}]", r"[a\x20b\x5Dc]"),
        (b"a b'c", "'{user_agent}'", r"'a\x20b\x27c'"),
        (b"a\tb", "{user_agent}\t{user_agent}", "a\\x09b\ta\\x09b"),
        (b"ambm", "{user_agent}m", "ambmm"),
        (b"a b", r#""{user_agent}" {user_agent}"#, r#""a b" a\x20b"#),
    ] {
        assert_eq!(agent(value, format), expected, "{format}");
    }
}

#[test]
fn a_long_value_is_cut() {
    let long = vec![b'x'; VALUE_BYTES_MAX + 1];
    for (value, end) in [(&long[..], "x...\""), (&long[1..], "x\"")] {
        for format in [r#""{user_agent}""#, r#"{{ "{user_agent}""#] {
            let written = agent(value, format);
            assert!(written.ends_with(end), "{written}");
            assert!(!written.contains(&"x".repeat(VALUE_BYTES_MAX + 1)));
        }
    }
}

#[test]
fn a_name_with_a_space_is_one_word() {
    let record = Record {
        upstream: Some("my pool"),
        backend: Some("unix:/a b"),
        ..http()
    };
    let combined = written(&record, &Form::combined());
    assert!(
        combined.contains(r" upstream=my\x20pool/unix:/a\x20b attempts"),
        "{combined}"
    );
}

#[test]
fn for_syslog_a_line_begins_with_its_header() {
    for (format, expected) in [
        (
            SyslogFormat::Rfc5424,
            "<134>1 2001-09-09T01:46:40.123Z 200\n",
        ),
        (SyslogFormat::Local, "<134>weir: 200\n"),
    ] {
        let form = Form::parse("{status}").expect("it is good");
        assert_eq!(written(&http(), &form.for_syslog(format, 134)), expected);
    }
}

#[test]
fn every_field_has_its_name() {
    let tls = TlsRecord {
        sni: Some("a.example"),
        version: "TLSv1.2",
        cipher: "C",
        is_resumed: true,
        is_verified: Some(false),
    };
    let refused = Record {
        request: Some(RequestRecord {
            traceparent: Some(b"00-x"),
            ..REQUEST
        }),
        why: Why::Refused,
        reason: Some("both Content-Length and Transfer-Encoding"),
        closed_by: Some(ClosedBy::Weir),
        timings: Timings {
            queue_us: Some(999_999),
            ..http().timings
        },
        sni: Some("a.example"),
        tls: Some(tls),
        ..http()
    };
    let expected = [
        "2001-09-09T01:46:40.123Z",
        "0000000000000abc",
        "3",
        "192.0.2.1",
        "4711",
        "web",
        "a.test",
        "GET",
        "/x?y=1",
        "HTTP/1.1",
        "200",
        "85",
        "1234",
        "5",
        "1000",
        "a.test/",
        "app",
        "10.0.0.1:80",
        "2",
        "1.002",
        "999.999",
        "0.020",
        "3.300",
        "9000.001",
        "refused by proxy: both Content-Length and Transfer-Encoding",
        "weir",
        "-",
        "-",
        "new",
        "00-x",
        "a.example",
        "TLSv1.2",
        "C",
        "yes",
        "none",
        "09/Sep/2001:01:46:40 +0000",
        "GET /x?y=1 HTTP/1.1",
        "PR",
        "both Content-Length and Transfer-Encoding",
    ];
    let names: Vec<&str> = field_names().collect();
    assert_eq!(names.len(), expected.len());
    for (name, expected) in names.into_iter().zip(expected) {
        let written = own(&refused, &format!("\"{{{name}}}\""));
        assert_eq!(written, format!("\"{expected}\""), "{name}");
    }
}

#[test]
fn fields_of_headers_are_those_that_the_format_names() {
    let form = Form::parse("{header:X-A} {user_agent} {response_header:Age} {header:x-a}");
    let form = form.expect("it is good");
    assert_eq!(form.request_fields(), ["X-A", "User-Agent"]);
    assert_eq!(form.response_fields(), ["Age"]);
    let (sent, answered) = ([Some(b"1".to_vec()), None], [Some(b"2".to_vec())]);
    let record = Record {
        request: Some(RequestRecord {
            request_fields: &sent,
            response_fields: &answered,
            ..REQUEST
        }),
        ..http()
    };
    assert_eq!(written(&record, &form), "1 - 2 1\n");
    assert_eq!(written(&http(), &form), "- - - -\n");
    assert_eq!(written(&tcp(), &form), "- - - -\n");
}

#[test]
fn braces_are_doubled() {
    for (format, expected) in [
        ("{{ {status} }}", "{ 200 }"),
        ("{{{status}}}", "{200}"),
        ("{status}}", "200}"),
        ("a{{b}}{status}", "a{b}200"),
        (
            r#"{{"s":{status},"w":{queue_ms},"q":"{queue_ms}"}}"#,
            r#"{"s":200,"w":null,"q":"-"}"#,
        ),
        (
            r#"{{"r":{request},"t":{ts}}}"#,
            r#"{"r":"GET /x?y=1 HTTP/1.1","t":"2001-09-09T01:46:40.123Z"}"#,
        ),
    ] {
        assert_eq!(own(&http(), format), expected, "{format}");
    }
}

#[test]
fn a_format_with_a_mistake_is_told_from_a_good_one() {
    let unclosed = |rest: &str| FormatError::Unclosed(rest.to_owned());
    let unknown = |name: &str| FormatError::UnknownField(name.to_owned());
    let bad = |name: &str| FormatError::BadHeader(name.to_owned());
    let long = format!("{{status}}{}", "x".repeat(FORMAT_BYTES_MAX));
    let many = "{status}".repeat(FIELDS_MAX + 1);
    let headers: String = (0..300).map(|it| format!("{{header:a{it}}}")).collect();
    for (format, expected) in [
        ("{status", unclosed("{status")),
        ("{client} {status", unclosed("{status")),
        ("{client {status}", unclosed("{client {status}")),
        ("\"{client\" {status}", unclosed("{client\" {status}")),
        ("{", unclosed("{")),
        ("{{{", unclosed("{")),
        ("{}", unknown("")),
        ("{ client }", unknown(" client ")),
        ("{Client}", unknown("Client")),
        ("{header}", unknown("header")),
        ("{header:}", bad("")),
        ("{header:a b}", bad("a b")),
        ("{response_header:a:b}", bad("a:b")),
        ("{header:\u{e9}}", bad("\u{e9}")),
        ("a\n{status}", FormatError::Control),
        ("\u{85}{status}", FormatError::Control),
        ("{{status}}", FormatError::NoField),
        ("", FormatError::NoField),
        (&long, FormatError::TooLong),
        (&many, FormatError::TooManyFields),
        (&headers, FormatError::TooManyFields),
    ] {
        assert_eq!(Form::parse(format).err(), Some(expected), "{format}");
    }
}
