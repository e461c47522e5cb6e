//! Uploads that are under way. What they have written counts towards no quota before it is an image's, so a project has few
//! of them at a time, and an image one. A status that says so was refused: it would outlive the process that wrote it.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use model::Fault;

/// Of one project, at a time.
const MOST: usize = 8;

/// Project and image of every upload.
#[derive(Clone, Default)]
pub struct Uploads(Arc<Mutex<BTreeSet<(String, String)>>>);

/// An upload, until dropped.
pub struct Upload {
    uploads: Uploads,
    what: (String, String),
}

impl Uploads {
    /// Begins an upload to a project's image.
    pub fn begin(&self, project: &str, image: &str) -> Result<Upload, Fault> {
        let what = (project.to_owned(), image.to_owned());
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.contains(&what) {
            let text =
                format!("Image status transition from saving to saving is not allowed: {image} is being uploaded");
            return Err(Fault::Conflict(text));
        }
        if all.iter().filter(|(of, _)| *of == project).count() >= MOST {
            let text = format!("A project uploads at most {MOST} images at a time; wait for one to end.");
            return Err(Fault::Unavailable(text));
        }
        all.insert(what.clone());
        Ok(Upload { uploads: self.clone(), what })
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        self.uploads.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.what);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_project_has_a_share_and_an_image_one_upload() {
        let uploads = Uploads::default();
        let mut held: Vec<_> = (0..MOST).map(|n| uploads.begin("p", &n.to_string()).expect("a place")).collect();
        assert!(matches!(uploads.begin("p", "more"), Err(Fault::Unavailable(_))));
        let other = uploads.begin("q", "0").expect("another project has its own");
        assert!(matches!(uploads.begin("q", "0"), Err(Fault::Conflict(_))));
        drop((other, held.pop()));
        assert!(uploads.begin("p", "more").is_ok() && uploads.begin("q", "0").is_ok());
    }
}
