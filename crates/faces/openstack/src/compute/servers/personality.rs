//! `personality`, until 2.56: files that a guest is to have. As in Nova's usual driver they reach it by the config drive, and
//! by the metadata service too, where its first boot's program puts them in their places; disks are not opened.

use base64::Engine as _;
use model::{Fault, InjectedFile};
use serde_json::Value;

use crate::call::Call;
use crate::compute::body::{Fields, bad};
use crate::compute::quotas;

/// The most that all files of a server are together, in characters of paths and base64, whatever its project's quota says.
const MOST: usize = 256 << 10;

/// The files that a body gives, within the project's quotas.
///
/// # Errors
/// `Invalid` if one is malformed, `Forbidden` in Nova's words if they are more or larger than the project may have.
pub fn read(call: &Call, value: Option<&Value>) -> Result<Vec<InjectedFile>, Fault> {
    let Some(value) = value else { return Ok(Vec::new()) };
    let list = value.as_array().ok_or_else(|| bad("personality", value, "It is not of type 'array'"))?;
    let files: Vec<InjectedFile> = list.iter().map(file).collect::<Result<_, _>>()?;
    let project = call.who()?.project_id().unwrap_or("");
    let limit = |name: &str| quotas::limit(&call.snapshot, project, name);
    let longest = |length: fn(&InjectedFile) -> usize| files.iter().map(length).max().unwrap_or(0) as u64;
    if limit("injected_files").is_some_and(|most| files.len() as u64 > most) {
        return Err(Fault::Forbidden("Personality file limit exceeded".into()));
    }
    if let Some(most) = limit("injected_file_path_bytes").filter(|most| longest(|f| f.path.len()) > *most) {
        return Err(Fault::Forbidden(format!("Personality file path exceeds maximum {most}")));
    }
    if let Some(most) = limit("injected_file_content_bytes").filter(|most| longest(|f| f.contents.len()) > *most) {
        return Err(Fault::Forbidden(format!("Personality file content exceeds maximum {most}")));
    }
    if files.iter().map(|file| file.path.len() + file.contents.len()).sum::<usize>() > MOST {
        return Err(Fault::Invalid(format!("The files of personality are more than {MOST} characters together.")));
    }
    Ok(files)
}

fn file(value: &Value) -> Result<InjectedFile, Fault> {
    let fields = Fields::new("personality", value)?;
    fields.only(&["path", "contents"])?;
    let value = fields.required("path")?;
    let path = value.as_str().ok_or_else(|| bad("path", value, "It is not of type 'string'"))?;
    if path.is_empty() || path.chars().any(char::is_control) {
        return Err(bad("path", value, "It is empty or has control characters"));
    }
    let value = fields.required("contents")?;
    let text = value.as_str().ok_or_else(|| bad("contents", value, "It is not of type 'string'"))?;
    let contents: String = text.split_whitespace().collect();
    match base64::engine::general_purpose::STANDARD.decode(&contents) {
        Ok(_) => Ok(InjectedFile { path: path.to_owned(), contents }),
        Err(_) => Err(Fault::Invalid("Invalid input for field/attribute contents. It is not a 'base64'".into())),
    }
}
