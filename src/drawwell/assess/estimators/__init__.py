"""The ten estimators of SP 800-90B (January 2018), section 6.3, one module for each idea.

Each is a pure function of an array of symbols 0 to k - 1, and gives the very values of NIST's own program
(usnistgov/SP800-90B_EntropyAssessment, version 1.1.7): where that departs from the printed standard, the
module says so and follows the program, for that is what laboratories run.
"""
