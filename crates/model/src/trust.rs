//! Keystone trusts: a user lends some of their roles on a project to another. What a trust gives is read from its trustor's
//! roles each time it is used, so the row says only what was meant.

use serde::{Deserialize, Serialize};

use crate::resource::kind;
use crate::{Claim, Index, Key, Kind, Realm, Resource, Snapshot, Time};

/// Roles of the trustor, lent to the trustee.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trust {
    pub id: String,
    pub trustor_user_id: String,
    pub trustee_user_id: String,
    /// Without one the trust lends no roles, only the trustor's name.
    pub project_id: Option<String>,
    /// The trustee acts under the trustor's name.
    pub impersonation: bool,
    pub role_ids: Vec<String>,
    pub expires_at: Option<Time>,
    /// How many tokens may still be made; `None`: any number.
    pub remaining_uses: Option<u32>,
    /// How many times in a row the trust may be lent on.
    pub redelegation_count: u32,
    /// The trust that was lent on.
    pub redelegated_trust_id: Option<String>,
    /// Which of its trustor's places it takes, below [`Trust::MOST`].
    pub place: u32,
}

impl Trust {
    /// How many trusts a user may give.
    pub const MOST: u32 = 1000;
    /// How many times in a row a trust may be lent on, as in Keystone.
    pub const DEEPEST: u32 = 3;

    /// This trust, the one that it was lent on from, and so on to the first; `None` if one of them is gone.
    pub fn pedigree(&self, snapshot: &Snapshot) -> Option<Vec<Trust>> {
        let mut all = vec![self.clone()];
        while let Some(id) = all.last().and_then(|trust| trust.redelegated_trust_id.clone()) {
            let above = snapshot.get::<Trust>(&id).filter(|_| all.len() <= Self::DEEPEST as usize)?;
            all.push(above.value.clone());
        }
        Some(all)
    }
}

impl Resource for Trust {
    kind!(Trust: of the cloud);
    fn claims(&self) -> Vec<Claim> {
        let needs = |kind, id: &String| Claim::Needs(Key::new(kind, Realm::Cloud, id.as_str()));
        let mut claims = vec![
            Claim::Unique(format!("trust/{}/{}", self.trustor_user_id, self.place)),
            needs(Kind::User, &self.trustor_user_id),
            needs(Kind::User, &self.trustee_user_id),
        ];
        claims.extend(self.project_id.as_ref().map(|id| needs(Kind::Project, id)));
        claims.extend(self.redelegated_trust_id.as_ref().map(|id| needs(Kind::Trust, id)));
        claims
    }
    /// Found by both users and by the trust that was lent on.
    fn index(&self) -> Vec<(Index, String)> {
        let above = self.redelegated_trust_id.iter();
        let all = [&self.trustor_user_id, &self.trustee_user_id].into_iter().chain(above);
        all.map(|id| (Index::Owner, id.clone())).collect()
    }
}
