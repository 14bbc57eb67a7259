//! The mark of a resource of which nothing was ever in this state directory, see [`crate::plan::doubt`].
//!
//! Written before the directory of its logs is made, so that the absence of that directory is noticed once and remembered.

use std::io;
use std::path::PathBuf;

use storage::{Fs, Layout, read_small, remove_small, write_small};
use tree::lineage::Lineage;
use tree::view::ResourceView;
use tree::{Host, Resource, Tree};

use crate::plan::doubt::has_past;
use crate::plan::seen::Seen;
use crate::ports::{Lane, Ports, blocking};

/// Remembers in a small file whether what the keys say about the own replica may be believed.
pub struct Doubt {
    ports: Ports,
    path: PathBuf,
    stands: bool,
}

impl Doubt {
    /// Looks whether anything of `res` was ever here. To be called before the directory of its logs is made.
    ///
    /// # Errors
    /// When the state directory cannot be read, or the mark not be made durable.
    pub async fn look(
        ports: &Ports,
        layout: &Layout,
        tree: &Tree,
        res: &Resource,
        here: &Host,
    ) -> io::Result<Doubt> {
        let lineage = Lineage::of(&ResourceView::new(tree, res));
        let past = has_past(&Seen {
            tree,
            res,
            here,
            lineage: &lineage,
        });
        let (fs, path, logs) = (ports.fs.clone(), layout.doubt(res), layout.resource(res));
        let mark = path.clone();
        let look = move || {
            let stands = match read_small(&*fs, &mark)? {
                Some(_) => true,
                None => past && !exists(&*fs, &logs)?,
            };
            if stands {
                write_small(&*fs, &mark, b"")?;
            }
            Ok::<_, io::Error>(stands)
        };
        let looked = blocking(&*ports.exec, &Lane::Misc, look).await;
        let stands = looked.unwrap_or_else(|| Err(io::ErrorKind::Interrupted.into()))?;
        Ok(Doubt {
            ports: ports.clone(),
            path,
            stands,
        })
    }

    /// Was nothing ever here, as far as is remembered?
    pub fn stands(&self) -> bool {
        self.stands
    }

    /// A replica begins here: from now on there is something.
    ///
    /// # Errors
    /// When that cannot be made durable; the doubt stands then.
    pub async fn end(&mut self) -> io::Result<()> {
        let (fs, path) = (self.ports.fs.clone(), self.path.clone());
        let remove = move || remove_small(&*fs, &path);
        let removed = blocking(&*self.ports.exec, &Lane::Misc, remove).await;
        removed.unwrap_or_else(|| Err(io::ErrorKind::Interrupted.into()))?;
        self.stands = false;
        Ok(())
    }
}

fn exists(fs: &dyn Fs, dir: &std::path::Path) -> io::Result<bool> {
    match fs.list(dir) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}
