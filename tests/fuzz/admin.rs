//! What must hold of a request to the admin door whatever its bytes are.

use weir::admin::request::{BODY_BYTES_MAX, HEAD_BYTES_MAX, Heard, Malformed, read};
use weir::core::http::head::RequestHead;

/// However the bytes come they are the same request or refused, what follows changes
/// nothing about it, and no more is waited for than a head and a body may have.
pub(crate) fn admin_request(bytes: &[u8]) {
    let whole = heard(bytes);
    let mut is_settled = false;
    for length in 0..=bytes.len() {
        match heard(&bytes[..length]) {
            Ok(Heard::Part | Heard::Head) => assert!(!is_settled, "what was decided stays so"),
            found => {
                assert_eq!(
                    verdict(&found),
                    verdict(&whole),
                    "of the first {length} bytes"
                );
                is_settled = true;
            }
        }
    }
    if !is_settled {
        let mut most = bytes.to_vec();
        most.resize(bytes.len().max(HEAD_BYTES_MAX + BODY_BYTES_MAX), b'x');
        let found = heard(&most);
        let is_part = matches!(found, Ok(Heard::Part | Heard::Head));
        assert!(!is_part, "of {} bytes", most.len());
    }
    if let Ok(Heard::Whole(request, own)) = whole {
        assert!(own <= bytes.len() && request.path.len() <= 3 * own);
        let parameters = request.parameters.iter();
        let told: usize = parameters
            .map(|(name, value)| name.len() + value.len())
            .sum();
        // What is not UTF-8 becomes three bytes for each.
        assert!(told <= 3 * own);
    }
}

/// One with more than one fault may be refused for the first that has come.
fn verdict(heard: &Result<Heard, Malformed>) -> Option<&Heard> {
    heard.as_ref().ok()
}

fn heard(bytes: &[u8]) -> Result<Heard, Malformed> {
    read(&mut RequestHead::default(), bytes)
}
