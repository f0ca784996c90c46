//! The request for a key generation (rule W8), parsed strictly, because the MPC service trusts no sender.

use serde::Deserialize;
use uuid::Uuid;

/// A typical request has 200 bytes.
pub const MAX_PAYLOAD_BYTES: usize = 4 * 1024;
const THRESHOLD: u32 = 2;
const TOTAL_PARTIES: u32 = 3;

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeygenRequest {
    pub session_id: String,
    pub user_id: i64,
    pub account_sequence: i64,
    pub username: String,
    pub threshold: u32,
    pub total_parties: u32,
    pub require_delegate: bool,
}

impl KeygenRequest {
    /// The error explains the problem to the team that sent the request.
    pub fn parse(payload: &str) -> Result<KeygenRequest, String> {
        if payload.len() > MAX_PAYLOAD_BYTES {
            return Err(format!(
                "the request has {} bytes, at most {MAX_PAYLOAD_BYTES} are taken",
                payload.len()
            ));
        }
        let request: KeygenRequest = serde_json::from_str(payload)
            .map_err(|error| format!("the request is not a MpcKeygenRequested: {error}"))?;
        request.check()?;
        Ok(request)
    }

    fn check(&self) -> Result<(), String> {
        let KeygenRequest { session_id, user_id, account_sequence, username, .. } = self;
        // Only one spelling is accepted, because other spellings of the same UUID would count as other
        // sessions.
        let canonical =
            Uuid::parse_str(session_id).is_ok_and(|uuid| !uuid.is_nil() && uuid.to_string() == *session_id);
        if !canonical {
            return Err(format!("session_id {session_id:?} is not a uuid in lower case with hyphens"));
        }
        if *user_id < 1 || *account_sequence < 1 {
            return Err(format!("user_id {user_id} and account_sequence {account_sequence} must be above 0"));
        }
        if *username != format!("user_{account_sequence}") {
            return Err(format!(
                "username {username:?} must be \"user_{account_sequence}\", after its account_sequence"
            ));
        }
        if self.threshold != THRESHOLD || self.total_parties != TOTAL_PARTIES {
            return Err(format!(
                "threshold {} of total_parties {} is not offered, only {THRESHOLD} of {TOTAL_PARTIES}",
                self.threshold, self.total_parties
            ));
        }
        if !self.require_delegate {
            return Err("require_delegate must be true".to_string());
        }
        Ok(())
    }
}
