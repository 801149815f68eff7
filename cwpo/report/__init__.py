"""Builds tables, figures, claims and an HTML page from the files under results/ alone; imports no model code."""
