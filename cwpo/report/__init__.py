"""Tables and figures from the files under results/ alone; no model code is imported here."""
