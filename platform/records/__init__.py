"""What has been recorded: listed, shown, compared, and cleaned up."""
