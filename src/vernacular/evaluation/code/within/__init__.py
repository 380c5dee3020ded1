"""What runs inside the sandboxes: the candidate's side and the examiner's, and the values that pass between them."""
