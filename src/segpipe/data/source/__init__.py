"""What the user's own files say: annotation files, label maps and images, read and checked."""
