"""Tasks whose files need not have known names: --train_file and its like name them."""

import files
import tasks


class NamedFilesTask(tasks.Task):
    """A task without classes of texts, whose files are known by name or are named."""

    def __init__(self, name, named_files=None, submission_name=None):
        """Describes a task.

        Args:
            name: of the task; named_files: {split: path} of files with other names.
            submission_name: of the file that CLUE's site takes, or None.
        """
        super(NamedFilesTask, self).__init__(name, (), None, submission_name=submission_name)
        self._named = {split: path for split, path in (named_files or {}).items() if path}

    def path(self, data_dir, split):
        """As tasks.Task.path, for a file that is named, too."""
        if split in self._named:
            files.require_file(self._named[split], split + "_file")
            return self._named[split]
        return super(NamedFilesTask, self).path(data_dir, split)
