//! Passwords and secrets: bcrypt, on threads of its own and never on more of them than there are processors. A login
//! costs a third of a second of one; without a bound a burst of them would stop every other request.

use std::sync::{Arc, OnceLock};

use model::{Fault, User};
use tokio::sync::Semaphore;

/// bcrypt reads no more bytes than this; longer secrets are refused rather than cut.
pub const LONGEST: usize = 72;

/// How many passwords of a user, the present one included, the user may not choose again.
pub const UNIQUE: usize = 2;

/// How many logins may wait for a processor before the next is sent away.
const QUEUE: usize = 256;

/// Gives a user another password, and remembers the former one for as long as it may not be used again.
pub fn replace(user: &mut User, hash: Option<String>) {
    let former = std::mem::replace(&mut user.password_hash, hash);
    user.password_history.splice(..0, former);
    user.password_history.truncate(UNIQUE - 1);
}

/// Hashes and checks passwords.
pub struct Passwords {
    cost: u32,
    running: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
    /// The hash of nothing in particular, checked for users that do not exist.
    decoy: Arc<OnceLock<String>>,
}

impl Passwords {
    pub fn new(cost: u32) -> Self {
        let processors = std::thread::available_parallelism().map_or(1, |n| n.get());
        Self {
            cost,
            running: Arc::new(Semaphore::new(processors)),
            waiting: Arc::new(Semaphore::new(QUEUE)),
            decoy: Arc::default(),
        }
    }

    /// The hash of a new password, or why it cannot be one.
    pub async fn hash(&self, password: &str) -> Result<String, Fault> {
        if password.len() > LONGEST {
            return Err(Fault::Forbidden(format!(
                "Password length must be less than or equal to {LONGEST}. The server could not comply with the \
                 request because the password is invalid."
            )));
        }
        let (password, cost) = (password.to_owned(), self.cost);
        let hash = self.work(move || bcrypt::hash(password, cost)).await?;
        hash.map_err(|e| Fault::invalid(format!("The password cannot be used: {e}")))
    }

    /// Refuses a password that is the user's present one or a recent one.
    pub async fn refuse_reuse(&self, user: &User, password: &str) -> Result<(), Fault> {
        for hash in user.password_hash.iter().chain(&user.password_history).take(UNIQUE) {
            if self.check(password, Some(hash)).await? {
                return Err(Fault::invalid(format!(
                    "The new password cannot be identical to a previous password. The total number which includes the \
                     new password must be unique is {UNIQUE}."
                )));
            }
        }
        Ok(())
    }

    /// Whether the password is the one of the hash. Takes as long without a hash as with one.
    pub async fn check(&self, password: &str, hash: Option<&str>) -> Result<bool, Fault> {
        let (password, hash, cost, decoy) =
            (password.to_owned(), hash.map(str::to_owned), self.cost, self.decoy.clone());
        self.work(move || match hash {
            Some(hash) => password.len() <= LONGEST && bcrypt::verify(password, &hash).unwrap_or(false),
            None => {
                let decoy = decoy.get_or_init(|| bcrypt::hash("decoy", cost).unwrap_or_default());
                let _ = bcrypt::verify(password, decoy);
                false
            }
        })
        .await
    }

    async fn work<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Fault> {
        let busy = || Fault::Unavailable("Too many logins at once; try again in a moment.".into());
        let _place = self.waiting.try_acquire().map_err(|_| busy())?;
        let turn = self.running.clone().acquire_owned().await.map_err(|_| busy())?;
        let task = tokio::task::spawn_blocking(move || {
            // Held until the work is done, even if the client has gone meanwhile.
            let _turn = turn;
            work()
        });
        task.await.map_err(|e| Fault::Internal(format!("a password check died: {e}")))
    }
}
