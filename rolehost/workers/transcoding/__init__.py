"""What the transcoding worker is made of: where ffmpeg is, what a file holds, and what each preset asks for."""
