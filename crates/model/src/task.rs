//! A Glance task: what became of one import of an image's bytes. It is told for two days, as Glance's; what is under way the
//! image itself says, so a task may be lost without harm.

use serde::{Deserialize, Serialize};

use crate::resource::kind;
use crate::{Claim, Index, Realm, Resource, Time};

/// Glance's states of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TaskStatus {
    Pending,
    Processing,
    Success,
    Failure,
}

impl TaskStatus {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Processing => "processing",
            Self::Success => "success",
            Self::Failure => "failure",
        }
    }

    /// Nothing follows.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Success | Self::Failure)
    }
}

/// One import of an image's bytes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Task {
    pub id: String,
    /// The image's owner.
    pub project_id: String,
    pub image_id: String,
    pub user_id: String,
    pub request_id: String,
    /// What was asked for: a method, with what it was told.
    pub method: serde_json::Value,
    pub status: TaskStatus,
    /// Why it failed; else empty.
    pub message: String,
    /// Which of its project's places it takes, below [`Task::MOST`].
    pub place: u32,
    pub created_at: Time,
    pub updated_at: Time,
    /// When it is forgotten, if it has ended.
    pub expires_at: Option<Time>,
}

impl Task {
    /// How many a project may have; of those that have ended, the oldest make room.
    pub const MOST: u32 = 100;
    /// How long one that has ended is told.
    pub const KEPT: jiff::SignedDuration = jiff::SignedDuration::from_hours(48);

    /// It ended, well or not.
    pub fn end(&mut self, failure: Option<String>, now: Time) {
        self.status = if failure.is_some() { TaskStatus::Failure } else { TaskStatus::Success };
        self.message = failure.unwrap_or_default();
        self.updated_at = now;
        self.expires_at = now.checked_add(Self::KEPT).ok();
    }
}

impl Resource for Task {
    kind!(Task: of a project);
    fn claims(&self) -> Vec<Claim> {
        vec![Claim::Unique(format!("task/{}/{}", Realm::project(&self.project_id), self.place))]
    }
    /// Found by the image.
    fn index(&self) -> Vec<(Index, String)> {
        vec![(Index::Owner, self.image_id.clone())]
    }
}
