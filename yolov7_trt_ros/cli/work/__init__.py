"""What a verb keeps of its work, so that an interrupted run goes on; files that are ours."""
