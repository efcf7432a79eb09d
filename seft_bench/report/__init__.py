"""Tables, figures and sentences made from results. Importing it loads neither matplotlib nor rich."""
