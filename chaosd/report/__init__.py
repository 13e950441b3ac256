"""What a run did: folds over the records of its journal."""
