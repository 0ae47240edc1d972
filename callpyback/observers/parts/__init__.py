"""What observers share: windows, bounded stores, counts that are exact under threads. Nothing here observes."""
