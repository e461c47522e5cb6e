//! Passwords and secrets: bcrypt, on threads of its own and never on more of them than there are processors. A login
//! costs a third of a second of one; without a bound a burst of them would stop every other request.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use model::{Fault, User};

use crate::Client;
use crate::turns::Turns;

/// bcrypt reads no more bytes than this; longer secrets are refused rather than cut.
pub const LONGEST: usize = 72;

/// How many passwords of a user, the present one included, the user may not choose again.
pub const UNIQUE: usize = 2;

/// Gives a user another password, and remembers the former one for as long as it may not be used again.
pub fn replace(user: &mut User, hash: Option<String>) {
    let former = std::mem::replace(&mut user.password_hash, hash);
    user.password_history.splice(..0, former);
    user.password_history.truncate(UNIQUE - 1);
}

/// Hashes and checks passwords.
pub struct Passwords {
    cost: u32,
    turns: Turns,
    /// How many hashes were computed.
    computed: AtomicU64,
    /// The hash of nothing in particular, checked for users that do not exist.
    decoy: Arc<OnceLock<String>>,
}

impl Passwords {
    pub fn new(cost: u32) -> Self {
        let processors = std::thread::available_parallelism().map_or(1, |n| n.get());
        Self { cost, turns: Turns::new(processors), computed: AtomicU64::default(), decoy: Arc::default() }
    }

    /// How many hashes were computed, for those who ask what a request costs.
    pub fn computed(&self) -> u64 {
        self.computed.load(Ordering::Relaxed)
    }

    /// The hash of a new password, or why it cannot be one.
    pub async fn hash(&self, password: &str, client: Client) -> Result<String, Fault> {
        if password.len() > LONGEST {
            return Err(Fault::Forbidden(format!(
                "Password length must be less than or equal to {LONGEST}. The server could not comply with the \
                 request because the password is invalid."
            )));
        }
        let (password, cost) = (password.to_owned(), self.cost);
        let hash = self.work(client, move || bcrypt::hash(password, cost)).await?;
        hash.map_err(|e| Fault::invalid(format!("The password cannot be used: {e}")))
    }

    /// Refuses a password that is the user's present one or a recent one.
    pub async fn refuse_reuse(&self, user: &User, password: &str, client: Client) -> Result<(), Fault> {
        for hash in user.password_hash.iter().chain(&user.password_history).take(UNIQUE) {
            if self.check(password, Some(hash), client).await? {
                return Err(Fault::invalid(format!(
                    "The new password cannot be identical to a previous password. The total number which includes the \
                     new password must be unique is {UNIQUE}."
                )));
            }
        }
        Ok(())
    }

    /// Whether the password is the one of the hash. The work is the same whether there is a hash or not, and whatever the
    /// password: bcrypt is run once.
    pub async fn check(&self, password: &str, hash: Option<&str>, client: Client) -> Result<bool, Fault> {
        let hash = hash.filter(|_| password.len() <= LONGEST).map(str::to_owned);
        let password = if hash.is_some() { password.to_owned() } else { String::new() };
        let (cost, decoy) = (self.cost, self.decoy.clone());
        self.work(client, move || match hash {
            Some(hash) => bcrypt::verify(password, &hash).unwrap_or(false),
            None => {
                let decoy = decoy.get_or_init(|| bcrypt::hash("decoy", cost).unwrap_or_default());
                let _ = bcrypt::verify(password, decoy);
                false
            }
        })
        .await
    }

    async fn work<T: Send + 'static>(
        &self,
        client: Client,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Fault> {
        let busy = || Fault::Unavailable("Too many logins at once; try again in a moment.".into());
        let turn = self.turns.take(client).await.ok_or_else(busy)?;
        self.computed.fetch_add(1, Ordering::Relaxed);
        let task = tokio::task::spawn_blocking(move || {
            // Held until the work is done, even if the client has gone meanwhile.
            let _turn = turn;
            work()
        });
        task.await.map_err(|e| Fault::Internal(format!("a password check died: {e}")))
    }
}
