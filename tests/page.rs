//! The page of the admin door runs only what is in it: the policy names its style and its script by
//! their hashes, which have to be those of the file.

use std::path::Path;
use std::process::Command;

const HASHES: &str = "import base64, hashlib, re, sys
page = open(sys.argv[1], 'rb').read()
for tag in (b'style', b'script'):
    (text,) = re.findall(b'<' + tag + b'>(.*?)</' + tag + b'>', page, re.S)
    name = base64.b64encode(hashlib.sha256(text).digest()).decode()
    print(\"%s-src 'sha256-%s'\" % (tag.decode(), name))
";

#[test]
fn the_policy_names_the_style_and_the_script_that_are_in_the_page() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/admin");
    let run = Command::new("python3")
        .args(["-c", HASHES])
        .arg(folder.join("page.html"))
        .output()
        .expect("python3 is there");
    assert!(run.status.success(), "{run:?}");
    let policy = std::fs::read_to_string(folder.join("page.rs")).expect("it is there");
    let hashes = String::from_utf8(run.stdout).expect("text");
    assert_eq!(hashes.lines().count(), 2);
    for hash in hashes.lines() {
        assert!(policy.contains(hash), "page.rs is to have {hash}");
    }
}
