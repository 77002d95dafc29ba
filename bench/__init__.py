"""The harness: runs methods, keeps their scores, derives figures from stored scores."""
