use std::{env, fs, path::Path};

/// `text` is what the file below `golden/` holds; `RAP_UPDATE_GOLDEN=1` writes it anew.
pub(crate) fn check_golden(file: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden").join(file);
    if env::var_os("RAP_UPDATE_GOLDEN").is_some() {
        fs::write(&path, text).expect("the golden file is written");
    }
    let frozen = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(text, frozen, "{file} changed");
}
